// Members of groups, and the transformation that is exactly once.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type stderr struct{}

func (stderr) Write(text []byte) (int, error) { return os.Stderr.Write(text) }

// member is one of a group, in a goroutine of its own; it tells what it holds and what it is given.
type member struct {
	client  *kgo.Client
	leaving context.CancelFunc
	left    chan struct{}
}

var members = map[string]*member{}

func join(request Request) (any, error) {
	tell := func(name string, changed map[string][]int32) {
		partitions := slices.Clone(changed[request.Topic])
		if partitions == nil {
			partitions = []int32{}
		}
		event(name, map[string]any{"member": request.Member, "partitions": partitions})
	}
	assigned := func(_ context.Context, _ *kgo.Client, given map[string][]int32) { tell("assigned", given) }
	revoked := func(_ context.Context, _ *kgo.Client, taken map[string][]int32) { tell("revoked", taken) }
	balancer := kgo.RangeBalancer()
	if request.Protocol == "cooperative" {
		balancer = kgo.CooperativeStickyBalancer()
	}
	options := []kgo.Opt{
		kgo.ConsumerGroup(request.Group), kgo.ConsumeTopics(request.Topic), kgo.Balancers(balancer),
		kgo.SessionTimeout(time.Duration(request.SessionMs) * time.Millisecond),
		kgo.HeartbeatInterval(500 * time.Millisecond), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.OnPartitionsAssigned(assigned),
		kgo.OnPartitionsRevoked(revoked), kgo.OnPartitionsLost(revoked), kgo.ClientID(request.Member),
	}
	if request.Instance != nil {
		options = append(options, kgo.InstanceID(*request.Instance))
	}
	client, err := connect(request, options...)
	if err != nil {
		return nil, err
	}
	polling, leaving := context.WithCancel(context.Background())
	one := &member{client, leaving, make(chan struct{})}
	members[request.Member] = one
	go one.run(polling, request.Member)
	return nil, nil
}

func (m *member) run(polling context.Context, name string) {
	defer close(m.left)
	for polling.Err() == nil {
		fetched := m.client.PollRecords(polling, 100)
		rows := [][]any{}
		fetched.EachRecord(func(each *kgo.Record) {
			rows = append(rows, []any{each.Partition, each.Offset, string(each.Value)})
		})
		if len(rows) > 0 {
			event("records", map[string]any{"member": name, "records": rows})
			if err := m.client.CommitRecords(context.Background(), fetched.Records()...); err != nil {
				fmt.Fprintln(os.Stderr, "commit:", err)
			}
		}
		m.client.AllowRebalance()
	}
	m.client.CloseAllowingRebalance()
}

func leave(request Request) (any, error) {
	one := members[request.Member]
	one.leaving()
	<-one.left
	return nil, nil
}

// steps stops a transformation where the library acts by itself: once the offsets are handed in.
type steps struct {
	stop         *Stop
	transactions int
}

func (s *steps) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if kmsg.Key(key) == kmsg.TxnOffsetCommit && e2e.Err() == nil {
		s.stop.at("offsets", s.transactions)
	}
}

func transform(request Request) (any, error) {
	steps := &steps{stop: request.Stop}
	options := []kgo.Opt{
		kgo.SeedBrokers(request.Bootstrap), kgo.ConsumerGroup(request.Group), kgo.ConsumeTopics(request.Source),
		kgo.TransactionalID(request.TransactionalID), kgo.TransactionTimeout(30 * time.Second),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.SessionTimeout(15 * time.Second),
		kgo.HeartbeatInterval(500 * time.Millisecond), kgo.RequireStableFetchOffsets(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.FetchMaxWait(100 * time.Millisecond), kgo.WithHooks(steps),
		kgo.WithLogger(kgo.BasicLogger(stderr{}, kgo.LogLevelWarn, nil)),
	}
	if request.Instance != nil {
		options = append(options, kgo.InstanceID(*request.Instance))
	}
	session, err := kgo.NewGroupTransactSession(options...)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	// It would ask who it is with its first record only, and until then a transaction that its predecessor left
	// open would keep the group's offsets unstable.
	if _, _, err := session.Client().ProducerID(background); err != nil {
		return nil, err
	}
	for {
		waiting, stop := context.WithTimeout(background, 300*time.Millisecond)
		fetched := session.PollRecords(waiting, 20)
		stop()
		if fetched.NumRecords() == 0 {
			done, err := consumed(session.Client(), request)
			if err != nil || done {
				return steps.transactions, err
			}
			continue
		}
		steps.transactions++
		if err := session.Begin(); err != nil {
			return nil, err
		}
		request.Stop.at("begin", steps.transactions)
		var changed []*kgo.Record
		fetched.EachRecord(func(each *kgo.Record) {
			value := append(slices.Clone(each.Value), '!')
			changed = append(changed, &kgo.Record{Topic: request.Target, Partition: each.Partition, Value: value})
		})
		err := session.Client().ProduceSync(background, changed...).FirstErr()
		request.Stop.at("produced", steps.transactions)
		if _, err := session.End(background, kgo.TransactionEndTry(err == nil)); err != nil {
			return nil, err
		}
		request.Stop.at("committed", steps.transactions)
	}
}

// consumed says whether the group has come to the ends that the request names.
func consumed(client *kgo.Client, request Request) (bool, error) {
	found, err := kadm.NewClient(client).FetchOffsets(context.Background(), request.Group)
	if err != nil {
		return false, err
	}
	for partition, end := range request.Ends {
		number, err := strconv.Atoi(partition)
		if err != nil {
			return false, err
		}
		if place, known := found.Lookup(request.Source, int32(number)); !known || place.At < end {
			return false, nil
		}
	}
	return true, nil
}
