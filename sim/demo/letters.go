package demo

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/sim"
)

// checkLetters reads the dead letter queue and compares it with the truth: every record that must be there, with its
// reason, and no other. The queue is compacted by key, so that the last letter of a position is the one that counts.
func (f *findings) checkLetters(ctx context.Context, brokers []string, topic string, truth sim.Source) error {
	where := "queue " + topic + ".dlq"
	got, err := readLetters(ctx, brokers, topic+".dlq")
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return f.compareLetters(where, topic, got, truth)
}

func (f *findings) compareLetters(where, topic string, got map[string]string, truth sim.Source) error {
	var want, differences int64
	found := int64(len(got))
	err := truth.Each(func(l sim.Line) error {
		if l.Dead == nil {
			return nil
		}
		want++
		key := topic + "/" + strconv.Itoa(int(l.Dead.Partition)) + "/" + strconv.FormatInt(l.Dead.Offset, 10)
		reason, ok := got[key]
		delete(got, key)
		if !ok {
			reason = "missing"
		}
		if reason != l.Dead.Reason {
			differences++
			f.differ(Difference{Where: where, Row: key, Column: "reason", Want: l.Dead.Reason, Got: reason})
		}
		return nil
	})
	for key, reason := range got {
		differences++
		f.differ(Difference{Where: where, Row: key, Want: "nothing", Got: reason})
	}
	f.check("dead letter queue", want, found, differences)
	return err
}

// readLetters returns the reason of each key in the topic; nothing if there is no such topic.
func readLetters(ctx context.Context, brokers []string, topic string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ClientID("deckle-demo"))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	adm := kadm.NewClient(client)
	topics, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	if t, ok := topics[topic]; !ok || t.Err != nil {
		return out, nil
	}
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	at, open := map[int32]kgo.Offset{}, map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		start, _ := starts.Lookup(topic, o.Partition)
		if o.Offset > start.Offset {
			at[o.Partition], open[o.Partition] = kgo.NewOffset().At(start.Offset), o.Offset
		}
	})
	if len(at) == 0 {
		return out, nil
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: at})
	for len(open) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= open[r.Partition] {
				delete(open, r.Partition)
			}
			for _, h := range r.Headers {
				if strings.EqualFold(h.Key, "reason") {
					out[string(r.Key)] = string(h.Value)
				}
			}
		})
	}
	return out, nil
}
