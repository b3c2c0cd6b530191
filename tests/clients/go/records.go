// Writing and reading records.
package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{
	"": kgo.NoCompression(), "none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func connect(request Request, options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(request.Bootstrap),
		kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.WithLogger(kgo.BasicLogger(stderr{}, kgo.LogLevelWarn, nil)),
	}, options...)...)
}

func produce(request Request) (any, error) {
	size := int32(1_000_000)
	if request.Batch > 0 && request.Batch < 100 {
		size = 512
	}
	options := []kgo.Opt{
		kgo.ProducerBatchCompression(codecs[request.Codec]), kgo.ProducerLinger(20 * time.Millisecond),
		kgo.ProducerBatchMaxBytes(size),
	}
	if request.Idempotent != nil && !*request.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := connect(request, options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	records := make([]*kgo.Record, 0, len(request.Records))
	for _, each := range request.Records {
		record := &kgo.Record{Topic: request.Topic, Partition: each.Partition, Key: each.Key, Value: each.Value}
		if each.Timestamp != nil {
			record.Timestamp = time.UnixMilli(*each.Timestamp)
		}
		for _, pair := range each.Headers {
			header := kgo.RecordHeader{Key: pair[0].(string)}
			if text, some := pair[1].(string); some {
				header.Value, err = base64.StdEncoding.DecodeString(text)
				if err != nil {
					return nil, err
				}
			}
			record.Headers = append(record.Headers, header)
		}
		records = append(records, record)
	}
	offsets := []int64{}
	for _, each := range client.ProduceSync(context.Background(), records...) {
		if each.Err != nil {
			return nil, each.Err
		}
	}
	for _, each := range records {
		offsets = append(offsets, each.Offset)
	}
	return offsets, nil
}

func read(request Request) (any, error) {
	start := map[int32]kgo.Offset{}
	for partition, offset := range request.Start {
		number, err := strconv.Atoi(partition)
		if err != nil {
			return nil, err
		}
		start[int32(number)] = kgo.NewOffset().At(offset)
	}
	isolation := kgo.ReadUncommitted()
	if request.Committed {
		isolation = kgo.ReadCommitted()
	}
	client, err := connect(request, kgo.FetchIsolationLevel(isolation),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{request.Topic: start}))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	found := []Record{}
	context, stop := context.WithTimeout(context.Background(), 60*time.Second)
	defer stop()
	for len(found) < request.Count {
		fetched := client.PollRecords(context, request.Count-len(found))
		if err := fetched.Err(); err != nil {
			return nil, fmt.Errorf("%d of %d records: %w", len(found), request.Count, err)
		}
		fetched.EachRecord(func(each *kgo.Record) { found = append(found, row(each)) })
	}
	return found, nil
}

func row(record *kgo.Record) Record {
	timestamp := record.Timestamp.UnixMilli()
	headers := [][]any{}
	for _, each := range record.Headers {
		headers = append(headers, []any{each.Key, each.Value})
	}
	return Record{record.Partition, record.Offset, &timestamp, record.Key, record.Value, headers}
}
