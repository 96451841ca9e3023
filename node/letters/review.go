package letters

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/status"
	"deckle/sinks/rights"
)

// review is the value of a record of the review topic, as JSON. No record means open.
type review struct {
	status.LetterReview

	// Revision is one more than that of the decision before: the greatest one holds.
	Revision int `json:"revision"`
	// Of an edit: the hashes of the letter's value and of the one that was written, in hexadecimal digits; "" where the
	// letter does not show its value, since a hash confirms a guess.
	Was    string `json:"sha256_was,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// reviews are what was decided about some letters.
type reviews struct {
	last     map[string]review // by key
	requests map[string]bool   // those that decided, of the last few as far as compaction has not come
}

// readReviews reads the review topic up to its end, and returns what it has of the letters that are wanted. end says
// where that is: to be sure of everything that was committed before, the high watermark.
func readReviews(ctx context.Context, cl *kgo.Client, name string, end listing, wanted func(key string) bool) (
	*reviews, error) {
	found := &reviews{last: map[string]review{}, requests: map[string]bool{}}
	t, err := openTopic(ctx, cl, name)
	if errors.Is(err, errNoTopic) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	starts, err := t.offsets(ctx, kadm.NewClient(cl).ListStartOffsets)
	if err != nil {
		return nil, err
	}
	ends, err := t.offsets(ctx, end)
	if err != nil {
		return nil, err
	}
	var broken error
	for p := range t.partitions {
		_, err := t.read(ctx, p, starts[p], ends[p], func(r *kgo.Record) bool {
			if !wanted(string(r.Key)) || r.Value == nil {
				return true
			}
			var v review
			if err := json.Unmarshal(r.Value, &v); err != nil {
				broken = fmt.Errorf("letters: %s/%d offset %d is no review: %w", name, p, r.Offset, err)
				return false
			}
			found.requests[v.Request] = true
			if old, ok := found.last[string(r.Key)]; !ok || v.Revision >= old.Revision {
				found.last[string(r.Key)] = v
			}
			return true
		})
		if err := errors.Join(broken, err); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// ensureReview returns the review topic, which it creates if it is missing. One that forgets what was decided is
// refused: its letters could be replayed twice.
func ensureReview(ctx context.Context, cl *kgo.Client, name string, letters *topic) (*topic, error) {
	adm := kadm.NewClient(cl)
	t, err := openTopic(ctx, cl, name)
	if errors.Is(err, errNoTopic) {
		config := map[string]*string{}
		for key, value := range map[string]string{"cleanup.policy": "compact", "segment.ms": "86400000"} {
			config[key] = &value
		}
		// One partition: what was decided has one order, and there is little of it.
		_, err = adm.CreateTopic(ctx, 1, int16(max(letters.replicas, 1)), config, name)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return nil, fmt.Errorf("letters: create topic %s: %w", name,
				rights.Explain(err, rights.Topic("Create", name), rights.Cluster("Create")))
		}
		for range attempts { // the brokers do not know it all at once
			if t, err = openTopic(ctx, cl, name); err == nil && len(t.leaders) == int(t.partitions) {
				break
			}
			if err := pause(ctx, fetchWait); err != nil {
				return nil, err
			}
		}
	}
	if err != nil {
		return nil, err
	}
	configs, err := adm.DescribeTopicConfigs(ctx, name)
	if err == nil && len(configs) == 1 {
		err = configs[0].Err
	}
	if err != nil {
		return nil, fmt.Errorf("letters: configuration of %s: %w", name,
			rights.Explain(err, rights.Topic("DescribeConfigs", name)))
	}
	for _, c := range configs {
		for _, kv := range c.Configs {
			if policy := kv.MaybeValue(); kv.Key == "cleanup.policy" && policy != "compact" {
				return nil, fmt.Errorf("%w: cleanup.policy of %s is %q, and must be compact, or a letter could be "+
					"replayed twice: kafka-configs.sh --bootstrap-server BROKER --alter --entity-type topics "+
					"--entity-name '%s' --add-config cleanup.policy=compact", status.ErrRefused, name,
					strings.TrimSpace(policy), name)
			}
		}
	}
	return t, nil
}
