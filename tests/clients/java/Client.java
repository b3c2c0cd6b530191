import static java.util.stream.Collectors.toList;
import static java.util.stream.Collectors.toMap;

import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Kafka's own client speaks the scenarios' protocol. */
public final class Client {
    private final Map<String, Member> members = new HashMap<>();
    private final Map<String, Admin> admins = new HashMap<>();

    public static void main(String[] arguments) throws Exception {
        Client client = new Client();
        Protocol.serve(System.err, client::answer, Client::codeOf);
    }

    private static Integer codeOf(Throwable error) {
        Errors known = Errors.forException(error);
        return known == Errors.UNKNOWN_SERVER_ERROR ? null : (int) known.code();
    }

    private Object answer(String command, JsonNode request) throws Exception {
        return switch (command) {
            case "produce" -> produce(request);
            case "read" -> read(request);
            case "time" -> time(request);
            case "join" -> join(request);
            case "leave" -> leave(request);
            case "transform" -> transform(request);
            default -> administer(command, request);
        };
    }

    private static Properties settings(JsonNode request, Object... pairs) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", request.get("bootstrap").asText());
        settings.put("reconnect.backoff.ms", "50");
        settings.put("retry.backoff.ms", "50");
        for (int at = 0; at < pairs.length; at += 2) {
            settings.put(pairs[at], pairs[at + 1].toString());
        }
        return settings;
    }

    private static KafkaProducer<byte[], byte[]> producer(Properties settings) {
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static KafkaConsumer<byte[], byte[]> consumer(Properties settings) {
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("fetch.max.wait.ms", "100");
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static TopicPartition place(JsonNode request) {
        return new TopicPartition(request.get("topic").asText(), request.get("partition").asInt());
    }

    private static byte[] bytes(JsonNode node) throws java.io.IOException {
        return node.isNull() ? null : node.binaryValue();
    }

    private static Object produce(JsonNode request) throws Exception {
        int batch = request.path("batch").asInt(100);
        Properties settings = settings(request, "acks", "all", "linger.ms", 20,
            "compression.type", request.path("codec").asText("none"),
            "enable.idempotence", request.path("idempotent").asBoolean(true),
            "batch.size", batch >= 100 ? 1_000_000 : 300);
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(settings)) {
            for (JsonNode each : request.get("records")) {
                Long timestamp = each.get("timestamp").isNull() ? null : each.get("timestamp").asLong();
                ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(request.get("topic").asText(),
                    each.get("partition").asInt(), timestamp, bytes(each.get("key")), bytes(each.get("value")));
                for (JsonNode header : each.get("headers")) {
                    record.headers().add(new RecordHeader(header.get(0).asText(), bytes(header.get(1))));
                }
                answers.add(producer.send(record));
            }
            producer.flush();
        }
        List<Long> offsets = new ArrayList<>();
        for (Future<RecordMetadata> each : answers) {
            offsets.add(each.get().offset());
        }
        return offsets;
    }

    private static Object read(JsonNode request) {
        int count = request.get("count").asInt();
        Map<TopicPartition, Long> start = new HashMap<>();
        request.get("start").properties().forEach(each -> start.put(
            new TopicPartition(request.get("topic").asText(), Integer.parseInt(each.getKey())),
            each.getValue().asLong()));
        boolean committed = request.path("committed").asBoolean(false);
        List<Object> found = new ArrayList<>();
        Properties settings = settings(request, "isolation.level", committed ? "read_committed" : "read_uncommitted");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(settings)) {
            consumer.assign(start.keySet());
            start.forEach(consumer::seek);
            long deadline = System.nanoTime() + 60_000_000_000L;
            while (found.size() < count) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException(found.size() + " of " + count + " records");
                }
                for (ConsumerRecord<byte[], byte[]> each : consumer.poll(Duration.ofMillis(200))) {
                    if (found.size() < count) {
                        found.add(row(each));
                    }
                }
            }
        }
        return found;
    }

    private static Map<String, Object> row(ConsumerRecord<byte[], byte[]> record) {
        List<Object> headers = new ArrayList<>();
        record.headers().forEach(each -> {
            List<Object> pair = new ArrayList<>();
            pair.add(each.key());
            pair.add(each.value());
            headers.add(pair);
        });
        Map<String, Object> row = new HashMap<>();
        row.put("partition", record.partition());
        row.put("offset", record.offset());
        row.put("timestamp", record.timestamp());
        row.put("key", record.key());
        row.put("value", record.value());
        row.put("headers", headers);
        return row;
    }

    private static Object time(JsonNode request) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(settings(request))) {
            TopicPartition place = place(request);
            var found = consumer.offsetsForTimes(Map.of(place, request.get("timestamp").asLong())).get(place);
            return found == null ? null : found.offset();
        }
    }

    private Object join(JsonNode request) {
        Member member = new Member(request);
        members.put(request.get("member").asText(), member);
        member.start();
        return null;
    }

    private Object leave(JsonNode request) throws InterruptedException {
        Member member = members.get(request.get("member").asText());
        member.leaving = true;
        member.join(60_000);
        return null;
    }

    /** A member of a group, in a thread of its own; tells what it holds and what it is given. */
    private static final class Member extends Thread implements ConsumerRebalanceListener {
        private final String name;
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final Set<Integer> held = new TreeSet<>();
        volatile boolean leaving;

        Member(JsonNode request) {
            name = request.get("member").asText();
            String protocol = request.get("protocol").asText();
            Properties settings = settings(request, "group.id", request.get("group").asText(), "client.id", name);
            if (protocol.equals("consumer")) {
                settings.put("group.protocol", "consumer");
            } else {
                settings.put("session.timeout.ms", request.get("session_ms").asText());
                settings.put("heartbeat.interval.ms", "500");
                settings.put("partition.assignment.strategy", protocol.equals("cooperative")
                    ? CooperativeStickyAssignor.class.getName() : RangeAssignor.class.getName());
            }
            if (!request.get("instance").isNull()) {
                settings.put("group.instance.id", request.get("instance").asText());
            }
            consumer = consumer(settings);
            consumer.subscribe(List.of(request.get("topic").asText()), this);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            List<Integer> gained = partitions.stream().map(TopicPartition::partition).collect(toList());
            held.addAll(gained);
            Protocol.event("assigned", Map.of("member", name, "partitions", gained));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            List<Integer> lost =
                partitions.stream().map(TopicPartition::partition).filter(held::contains).collect(toList());
            held.removeAll(lost);
            Protocol.event("revoked", Map.of("member", name, "partitions", lost));
        }

        @Override
        public void run() {
            try (consumer) {
                while (!leaving) {
                    List<Object> rows = new ArrayList<>();
                    for (ConsumerRecord<byte[], byte[]> each : consumer.poll(Duration.ofMillis(100))) {
                        rows.add(List.of(each.partition(), each.offset(), new String(each.value())));
                    }
                    if (rows.isEmpty()) {
                        continue;
                    }
                    Protocol.event("records", Map.of("member", name, "records", rows));
                    try {
                        consumer.commitSync();
                    } catch (CommitFailedException | RebalanceInProgressException refused) {
                        System.err.println("commit: " + refused);
                    }
                }
            }
        }
    }

    private static Object transform(JsonNode request) throws Exception {
        String source = request.get("source").asText();
        String target = request.get("target").asText();
        Properties consuming = settings(request, "group.id", request.get("group").asText(), "max.poll.records", 20,
            "isolation.level", "read_committed", "session.timeout.ms", 15_000, "heartbeat.interval.ms", 500);
        if (!request.get("instance").isNull()) {
            consuming.put("group.instance.id", request.get("instance").asText());
        }
        Properties producing = settings(request, "transactional.id", request.get("transactional_id").asText(),
            "transaction.timeout.ms", 30_000);
        Map<TopicPartition, Long> ends = new HashMap<>();
        request.get("ends").properties().forEach(each -> ends.put(
            new TopicPartition(source, Integer.parseInt(each.getKey())), each.getValue().asLong()));
        int transactions = 0;
        try (var consumer = consumer(consuming); var producer = producer(producing)) {
            producer.initTransactions();
            consumer.subscribe(List.of(source));
            while (true) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(300));
                if (records.isEmpty()) {
                    var places = consumer.committed(ends.keySet());
                    boolean done = ends.entrySet().stream().allMatch(each -> places.get(each.getKey()) != null
                        && places.get(each.getKey()).offset() >= each.getValue());
                    if (done && !consumer.assignment().isEmpty()) {
                        return transactions;
                    }
                    continue;
                }
                transactions++;
                producer.beginTransaction();
                Protocol.stopAt("begin", request.get("stop"), transactions);
                List<Future<RecordMetadata>> answers = new ArrayList<>();
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<byte[], byte[]> each : records) {
                    byte[] value = (new String(each.value()) + "!").getBytes();
                    answers.add(producer.send(new ProducerRecord<>(target, each.partition(), null, value)));
                    offsets.put(new TopicPartition(source, each.partition()), new OffsetAndMetadata(each.offset() + 1));
                }
                producer.flush();
                for (Future<RecordMetadata> each : answers) {
                    each.get();
                }
                Protocol.stopAt("produced", request.get("stop"), transactions);
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                Protocol.stopAt("offsets", request.get("stop"), transactions);
                producer.commitTransaction();
                Protocol.stopAt("committed", request.get("stop"), transactions);
            }
        }
    }

    private Object administer(String command, JsonNode request) throws Exception {
        Admin admin = admins.computeIfAbsent(request.get("bootstrap").asText(),
            address -> Admin.create(Map.of("bootstrap.servers", address)));
        String topic = request.path("topic").asText();
        String group = request.path("group").asText();
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        switch (command) {
            case "create" -> {
                Map<String, String> config = new HashMap<>();
                request.get("config").properties().forEach(
                    each -> config.put(each.getKey(), each.getValue().asText()));
                NewTopic created =
                    new NewTopic(topic, Optional.of(request.get("partitions").asInt()), Optional.of((short) 1));
                admin.createTopics(List.of(created.configs(config))).all().get();
            }
            case "describe" -> {
                return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
            }
            case "widen" -> admin.createPartitions(
                Map.of(topic, NewPartitions.increaseTo(request.get("count").asInt()))).all().get();
            case "config" -> {
                return admin.describeConfigs(List.of(resource)).all().get().get(resource).entries().stream()
                    .collect(toMap(ConfigEntry::name, each -> String.valueOf(each.value())));
            }
            case "alter" -> {
                ConfigEntry entry = new ConfigEntry(request.get("name").asText(), request.get("value").asText());
                admin.incrementalAlterConfigs(
                    Map.of(resource, List.of(new AlterConfigOp(entry, AlterConfigOp.OpType.SET)))).all().get();
            }
            case "delete_records" -> {
                var wanted = Map.of(place(request), RecordsToDelete.beforeOffset(request.get("before").asLong()));
                return admin.deleteRecords(wanted).lowWatermarks().get(place(request)).get().lowWatermark();
            }
            case "offsets" -> {
                List<Long> found = new ArrayList<>();
                for (OffsetSpec each : List.of(OffsetSpec.earliest(), OffsetSpec.latest())) {
                    found.add(admin.listOffsets(Map.of(place(request), each)).partitionResult(place(request)).get()
                        .offset());
                }
                return found;
            }
            case "commit" -> admin.alterConsumerGroupOffsets(group,
                Map.of(place(request), new OffsetAndMetadata(request.get("offset").asLong()))).all().get();
            case "committed" -> {
                var asked = new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(place(request)));
                var found = admin.listConsumerGroupOffsets(Map.of(group, asked))
                    .partitionsToOffsetAndMetadata(group).get().get(place(request));
                return found == null ? null : found.offset();
            }
            case "groups" -> {
                return admin.listGroups().all().get().stream().map(each -> each.groupId()).collect(toList());
            }
            case "group" -> {
                var found = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
                int partitions =
                    found.members().stream().mapToInt(each -> each.assignment().topicPartitions().size()).sum();
                return Map.of("state", found.groupState().toString().toLowerCase(), "members", found.members().size(),
                    "partitions", partitions);
            }
            case "delete_group" -> admin.deleteConsumerGroups(List.of(group)).all().get();
            case "delete" -> admin.deleteTopics(List.of(topic)).all().get();
            default -> throw new IllegalArgumentException(command);
        }
        return null;
    }
}
