package verify

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/sim"
)

// DeadLetters reads the dead letter queue of a topic, <topic>.dlq, as a table of kind Letters. The queue is compacted
// by key, so that the last letter of a position counts. It is read once, by the first call of the Reader: by then the
// caller must have waited until all letters are acknowledged. kafka are the options of the client: brokers, dialer.
func DeadLetters(topic string, kafka ...kgo.Opt) Reader { return &letters{kafka: kafka, topic: topic} }

type letters struct {
	kafka []kgo.Opt
	topic string // of the source

	rows [][]string
	read bool
}

// Count implements Reader.
func (l *letters) Count(ctx context.Context, _ string) (int64, error) {
	if !l.read {
		reasons, err := readLetters(ctx, l.kafka, l.topic+".dlq")
		if err != nil {
			return 0, fmt.Errorf("dead letter queue: %w", err)
		}
		for key, reason := range reasons {
			l.rows = append(l.rows, letterRow(l.topic, key, reason))
		}
		l.read = true
	}
	return int64(len(l.rows)), nil
}

// Rows implements Reader.
func (l *letters) Rows(ctx context.Context, table string, yield func(row []string) error) error {
	if _, err := l.Count(ctx, table); err != nil {
		return err
	}
	for _, row := range l.rows {
		if err := yield(row); err != nil {
			return err
		}
	}
	return nil
}

// letterRow takes partition and offset from the key topic/partition/offset. Any other key is kept whole, and so is
// found as a letter that should not be there.
func letterRow(topic, key, reason string) []string {
	rest, ours := strings.CutPrefix(key, topic+"/")
	partition, offset, ok := strings.Cut(rest, "/")
	if _, err := strconv.ParseInt(offset, 10, 64); !ours || !ok || err != nil {
		return []string{key, "", reason}
	}
	return []string{partition, offset, reason}
}

// readLetters returns the reason of each key in the topic; nothing if there is no such topic.
func readLetters(ctx context.Context, kafka []kgo.Opt, topic string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.ClientID("deckle-verify")}, kafka...)...)
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
		for _, e := range fetches.Errors() {
			return nil, e.Err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= open[r.Partition] {
				delete(open, r.Partition)
			}
			shows := bytes.Contains(r.Value, []byte(sim.Planted))
			for _, h := range r.Headers {
				if h.Key == "reason" {
					out[string(r.Key)] = string(h.Value)
				}
				shows = shows || bytes.Contains(h.Value, []byte(sim.Planted))
			}
			if shows { // no reason has this name: it differs from the truth
				out[string(r.Key)] += ", and shows personal data"
			}
		})
	}
	return out, nil
}
