// kafkajs speaks the scenarios' protocol (tests/clients/README.md).
//
// kafkajs leaves every codec but gzip to others; those chosen here are plain JavaScript or WebAssembly. It
// consumes in groups alone, so reading from an offset is a group of one that seeks.
'use strict'

const { randomUUID } = require('node:crypto')
const readline = require('node:readline')
const { AssignerProtocol, CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } =
  require('kafkajs')
const SnappyCodec = require('kafkajs-snappy')
const lz4 = require('lz4js')
const xxh32 = require('lz4js/xxh32.js')
const { ZstdCodec } = require('zstd-codec')

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')
const event = (name, body) => say({ event: name, at: Date.now() / 1000, ...body })
const b64 = (data) => (data === null || data === undefined ? null : data.toString('base64'))
const unb64 = (text) => (text === null ? null : Buffer.from(text, 'base64'))
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => {
    const frame = Buffer.from(lz4.compress(encoder.buffer))
    // lz4js compresses each block by itself and does not say so, which Kafka insists on: set the flag of
    // independent blocks, and the checksum of the two bytes that describe the frame.
    frame[4] |= 0x20
    frame[6] = (xxh32.hash(0, frame, 4, 2) >> 8) & 0xff
    return frame
  },
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
})
const zstd = new Promise((resolve) => ZstdCodec.run((codec) => resolve(new codec.Streaming())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from((await zstd).decompress(buffer)),
})
const CODECS = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD,
}

const kafkas = {}
function kafka(bootstrap) {
  kafkas[bootstrap] ??= new Kafka({
    brokers: [bootstrap], clientId: 'scenarios', logLevel: logLevel.WARN,
    logCreator: () => ({ label, log }) => process.stderr.write(`${label} ${JSON.stringify(log)}\n`),
    retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 20 },
  })
  return kafkas[bootstrap]
}
// It warns of anything less where a producer is idempotent.
const patient = { initialRetryTime: 50, maxRetryTime: 500, retries: Number.MAX_SAFE_INTEGER }

// kafkajs keeps headers by name: those of one name are an array.
function toHeaders(pairs) {
  const headers = {}
  for (const [name, value] of pairs) {
    const data = unb64(value)
    headers[name] = name in headers ? [].concat(headers[name], data) : data
  }
  return headers
}

function fromHeaders(headers) {
  const pairs = []
  for (const [name, values] of Object.entries(headers ?? {})) {
    for (const value of [].concat(values)) pairs.push([name, b64(value)])
  }
  return pairs
}

async function produce({ bootstrap, topic, records, codec = 'none', idempotent = true, batch = 100 }) {
  const producer = kafka(bootstrap).producer({ idempotent, maxInFlightRequests: 1, retry: patient })
  await producer.connect()
  const offsets = new Array(records.length).fill(null)
  for (let from = 0; from < records.length; from += batch) {
    const some = records.slice(from, from + batch)
    const messages = some.map((each) => ({
      partition: each.partition, key: unb64(each.key), value: unb64(each.value), headers: toHeaders(each.headers),
      ...(each.timestamp === null ? {} : { timestamp: String(each.timestamp) }),
    }))
    const answers = await producer.send({ topic, messages, acks: -1, compression: CODECS[codec] })
    const next = Object.fromEntries(answers.map((each) => [each.partition, Number(each.baseOffset)]))
    some.forEach((each, at) => { offsets[from + at] = next[each.partition]++ })
  }
  await producer.disconnect()
  return offsets
}

async function read({ bootstrap, topic, start, count, committed = false }) {
  const consumer = kafka(bootstrap).consumer({
    groupId: `read-${randomUUID()}`, readUncommitted: !committed, maxWaitTimeInMs: 100,
  })
  const found = []
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`${found.length} of ${count} records`)), 60_000)
    const done = () => { clearTimeout(late); resolve() }
    consumer.on(consumer.events.CRASH, ({ payload }) => { if (!payload.restart) reject(payload.error) })
    consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        // What came before the seek took effect, and partitions nobody asked for.
        if (!(partition in start) || Number(message.offset) < start[partition]) return
        if (found.length < count) {
          found.push({
            partition, offset: Number(message.offset), timestamp: Number(message.timestamp), key: b64(message.key),
            value: b64(message.value), headers: fromHeaders(message.headers),
          })
        }
        if (found.length === count) done()
      },
    }).catch(reject)
    for (const [partition, offset] of Object.entries(start)) {
      consumer.seek({ topic, partition: Number(partition), offset: String(offset) })
    }
  })
  await consumer.disconnect()
  return found
}

const admins = {}
async function admin(bootstrap) {
  if (!admins[bootstrap]) {
    admins[bootstrap] = kafka(bootstrap).admin()
    await admins[bootstrap].connect()
  }
  return admins[bootstrap]
}

async function time({ bootstrap, topic, partition, timestamp }) {
  const found = await (await admin(bootstrap)).fetchTopicOffsetsByTimestamp(topic, timestamp)
  const offset = Number(found.find((each) => each.partition === partition).offset)
  return offset >= 0 ? offset : null
}

const members = {}

async function join({ bootstrap, member, group, topic, session_ms }) {
  const consumer = kafka(bootstrap).consumer({
    groupId: group, sessionTimeout: session_ms, rebalanceTimeout: 10_000, heartbeatInterval: 500, maxWaitTimeInMs: 100,
  })
  const own = { consumer, held: new Set(), leaving: false }
  members[member] = own
  const lose = () => {
    event('revoked', { member, partitions: [...own.held] })
    own.held.clear()
  }
  own.lose = lose
  consumer.on(consumer.events.REBALANCING, lose)
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    // It may have been about to join again when it was told to leave.
    if (own.leaving) return
    if (own.held.size > 0) lose()
    own.held = new Set(payload.memberAssignment[topic] ?? [])
    event('assigned', { member, partitions: [...own.held] })
  })
  consumer.on(consumer.events.CRASH, ({ payload }) => process.stderr.write(`${member}: ${payload.error.stack}\n`))
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset, heartbeat, commitOffsetsIfNecessary, uncommittedOffsets, isStale }) => {
      if (own.leaving || isStale() || !own.held.has(batch.partition)) return
      const records = batch.messages.map((each) => [batch.partition, Number(each.offset), each.value.toString()])
      event('records', { member, records })
      resolveOffset(batch.lastOffset())
      await commitOffsetsIfNecessary(uncommittedOffsets())
      await heartbeat()
    },
  })
}

async function leave({ member }) {
  const own = members[member]
  own.leaving = true
  own.lose()
  await own.consumer.disconnect()
}

async function transform({ bootstrap, group, source, target, transactional_id, ends, stop }) {
  const consumer = kafka(bootstrap).consumer({
    groupId: group, sessionTimeout: 6_000, rebalanceTimeout: 10_000, heartbeatInterval: 500, maxWaitTimeInMs: 100,
  })
  const producer = kafka(bootstrap).producer({
    transactionalId: transactional_id, idempotent: true, maxInFlightRequests: 1, transactionTimeout: 30_000,
    retry: patient,
  })
  let transactions = 0
  const pause = async (step) => {
    if (stop && stop.step === step && transactions >= stop.after) {
      event('at', { step })
      await sleep(600_000)
    }
  }
  await producer.connect()
  await consumer.connect()
  await consumer.subscribe({ topic: source, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset, isRunning, isStale }) => {
      for (let from = 0; from < batch.messages.length && isRunning() && !isStale(); from += 20) {
        const some = batch.messages.slice(from, from + 20)
        const last = some[some.length - 1].offset
        transactions += 1
        const transaction = await producer.transaction()
        await pause('begin')
        const messages = some.map((each) => ({ partition: batch.partition, value: `${each.value}!` }))
        await transaction.send({ topic: target, messages })
        await pause('produced')
        const partitions = [{ partition: batch.partition, offset: String(Number(last) + 1) }]
        await transaction.sendOffsets({ consumerGroupId: group, topics: [{ topic: source, partitions }] })
        await pause('offsets')
        await transaction.commit()
        await pause('committed')
        resolveOffset(last)
      }
    },
  })
  for (;;) {
    const [found] = await (await admin(bootstrap)).fetchOffsets({ groupId: group, topics: [source] })
    if (found.partitions.every((each) => Number(each.offset) >= ends[each.partition])) break
    await sleep(200)
  }
  await consumer.disconnect()
  await producer.disconnect()
  return transactions
}

const topicResource = (topic) => ({ type: ConfigResourceTypes.TOPIC, name: topic })

async function create({ bootstrap, topic, partitions, config }) {
  const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
  const wanted = { topic, numPartitions: partitions, replicationFactor: 1, configEntries }
  // kafkajs says "false" where the topic exists, and throws anything else.
  if (!(await (await admin(bootstrap)).createTopics({ topics: [wanted], waitForLeaders: false }))) {
    throw Object.assign(new Error('the topic exists'), { code: 36 })
  }
}

async function describe({ bootstrap, topic }) {
  const { topics: [found] } = await (await admin(bootstrap)).fetchTopicMetadata({ topics: [topic] })
  return found.partitions.length
}

async function widen({ bootstrap, topic, count }) {
  await (await admin(bootstrap)).createPartitions({ topicPartitions: [{ topic, count }] })
}

async function config({ bootstrap, topic }) {
  const { resources: [found] } = await (await admin(bootstrap)).describeConfigs({
    resources: [topicResource(topic)], includeSynonyms: false,
  })
  return Object.fromEntries(found.configEntries.map((each) => [each.configName, each.configValue]))
}

async function alter({ bootstrap, topic, name, value }) {
  // It knows AlterConfigs alone, which sets a topic's whole configuration.
  await (await admin(bootstrap)).alterConfigs({
    validateOnly: false, resources: [{ ...topicResource(topic), configEntries: [{ name, value }] }],
  })
}

async function deleteRecords({ bootstrap, topic, partition, before }) {
  await (await admin(bootstrap)).deleteTopicRecords({ topic, partitions: [{ partition, offset: String(before) }] })
  return null
}

async function offsets({ bootstrap, topic, partition }) {
  const found = await (await admin(bootstrap)).fetchTopicOffsets(topic)
  const { low, high } = found.find((each) => each.partition === partition)
  return [Number(low), Number(high)]
}

async function commit({ bootstrap, group, topic, partition, offset }) {
  await (await admin(bootstrap)).setOffsets({
    groupId: group, topic, partitions: [{ partition, offset: String(offset) }],
  })
}

async function committed({ bootstrap, group, topic, partition }) {
  const [found] = await (await admin(bootstrap)).fetchOffsets({ groupId: group, topics: [topic] })
  const offset = Number(found.partitions.find((each) => each.partition === partition)?.offset ?? -1)
  return offset >= 0 ? offset : null
}

async function groups({ bootstrap }) {
  return (await (await admin(bootstrap)).listGroups()).groups.map((each) => each.groupId)
}

async function group({ bootstrap, group }) {
  const { groups: [found] } = await (await admin(bootstrap)).describeGroups([group])
  const shares = found.members.map((each) => AssignerProtocol.MemberAssignment.decode(each.memberAssignment))
  const partitions = shares.flatMap((each) => (each ? Object.values(each.assignment).flat() : []))
  return { state: found.state.toLowerCase(), members: found.members.length, partitions: partitions.length }
}

async function deleteGroup({ bootstrap, group }) {
  await (await admin(bootstrap)).deleteGroups([group]).catch((refused) => {
    throw refused.groups?.[0]?.error ?? refused
  })
}

async function remove({ bootstrap, topic }) {
  await (await admin(bootstrap)).deleteTopics({ topics: [topic] })
}

const COMMANDS = {
  produce, read, time, join, leave, transform, create, describe, widen, config, alter, delete_records: deleteRecords,
  offsets, commit, committed, groups, group, delete_group: deleteGroup, delete: remove,
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { id, do: name, ...request } = JSON.parse(line)
    try {
      say({ id, ok: (await COMMANDS[name](request)) ?? null })
    } catch (error) {
      process.stderr.write(`${error.stack}\n`)
      say({ id, error: String(error), code: error.code ?? error.cause?.code ?? null })
    }
  }
}

main().then(() => process.exit(0))
