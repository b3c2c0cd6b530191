// What administrators do, with kadm.
package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	background = context.Background()
	admins     = map[string]*kadm.Client{}
)

func admin(request Request) *kadm.Client {
	if admins[request.Bootstrap] == nil {
		client, err := connect(request, kgo.MetadataMinAge(10*time.Millisecond))
		if err != nil {
			panic(err)
		}
		admins[request.Bootstrap] = kadm.NewClient(client)
	}
	return admins[request.Bootstrap]
}

func timeOf(request Request) (any, error) {
	found, err := admin(request).ListOffsetsAfterMilli(background, request.Timestamp, request.Topic)
	if err != nil {
		return nil, err
	}
	place, _ := found.Lookup(request.Topic, request.Partition)
	if place.Err != nil || place.Offset < 0 {
		return nil, place.Err
	}
	return place.Offset, nil
}

func create(request Request) (any, error) {
	config := map[string]*string{}
	for name, value := range request.Config {
		config[name] = &value
	}
	_, err := admin(request).CreateTopic(background, request.Partitions, 1, config, request.Topic)
	return nil, err
}

func describe(request Request) (any, error) {
	found, err := admin(request).ListTopics(background, request.Topic)
	if err != nil {
		return nil, err
	}
	topic := found[request.Topic]
	return len(topic.Partitions), topic.Err
}

func widen(request Request) (any, error) {
	found, err := admin(request).UpdatePartitions(background, request.Count, request.Topic)
	return nil, errors.Join(err, found.Error())
}

func config(request Request) (any, error) {
	found, err := admin(request).DescribeTopicConfigs(background, request.Topic)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, each := range found[0].Configs {
		values[each.Key] = each.MaybeValue()
	}
	return values, found[0].Err
}

func alter(request Request) (any, error) {
	set := kadm.AlterConfig{Op: kadm.SetConfig, Name: request.Name, Value: &request.Value}
	found, err := admin(request).AlterTopicConfigs(background, []kadm.AlterConfig{set}, request.Topic)
	if err != nil {
		return nil, err
	}
	return nil, found[0].Err
}

func deleteRecords(request Request) (any, error) {
	var wanted kadm.Offsets
	wanted.AddOffset(request.Topic, request.Partition, request.Before, -1)
	found, err := admin(request).DeleteRecords(background, wanted)
	if err != nil {
		return nil, err
	}
	place, _ := found.Lookup(request.Topic, request.Partition)
	return place.LowWatermark, place.Err
}

func offsets(request Request) (any, error) {
	places := []int64{}
	for _, list := range []func(context.Context, ...string) (kadm.ListedOffsets, error){
		admin(request).ListStartOffsets, admin(request).ListEndOffsets,
	} {
		found, err := list(background, request.Topic)
		if err != nil {
			return nil, err
		}
		place, _ := found.Lookup(request.Topic, request.Partition)
		if place.Err != nil {
			return nil, place.Err
		}
		places = append(places, place.Offset)
	}
	return places, nil
}

func commit(request Request) (any, error) {
	var places kadm.Offsets
	places.AddOffset(request.Topic, request.Partition, request.Offset, -1)
	return nil, admin(request).CommitAllOffsets(background, request.Group, places)
}

func committed(request Request) (any, error) {
	found, err := admin(request).FetchOffsets(background, request.Group)
	if err != nil {
		return nil, err
	}
	place, known := found.Lookup(request.Topic, request.Partition)
	if !known || place.At < 0 {
		return nil, place.Err
	}
	return place.At, place.Err
}

func groups(request Request) (any, error) {
	found, err := admin(request).ListGroups(background)
	return found.Groups(), err
}

func group(request Request) (any, error) {
	found, err := admin(request).DescribeGroups(background, request.Group)
	if err != nil {
		return nil, err
	}
	one := found[request.Group]
	partitions := 0
	for _, each := range one.Members {
		if share, some := each.Assigned.AsConsumer(); some {
			for _, topic := range share.Topics {
				partitions += len(topic.Partitions)
			}
		}
	}
	state := map[string]any{"state": strings.ToLower(one.State), "members": len(one.Members), "partitions": partitions}
	return state, one.Err
}

func deleteGroup(request Request) (any, error) {
	_, err := admin(request).DeleteGroup(background, request.Group)
	return nil, err
}

func remove(request Request) (any, error) {
	_, err := admin(request).DeleteTopic(background, request.Topic)
	return nil, err
}
