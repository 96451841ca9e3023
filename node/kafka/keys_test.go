package kafka

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/nodetest"
)

// Field report F11: the key is the event's id. 40 sessions became 160 rows, and nobody was told.
func TestKeysOfEventsAreRefused(t *testing.T) {
	b := nodetest.NewBroker(t, 6)
	f, err := os.Open("testdata/F11.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rs []*kgo.Record
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r struct {
			P         int32
			Key, Text string
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		rs = append(rs, &kgo.Record{Partition: r.P, Key: []byte(r.Key), Value: []byte(r.Text)})
	}
	b.Produce(rs...)
	notice, err := clientOf(b).CheckKeys(nodetest.Context(t), "auto", 6)
	if !errors.Is(err, ErrOtherKeys) || notice != "" {
		t.Fatalf("%q, %v", notice, err)
	}
	for _, want := range []string{"of 40 sessions sampled more than once", "40 have records", `session "s`, "partition",
		"cluster.shards to 1", "kafka.keyed: yes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	for setting, shards := range map[string]int{"yes": 6, "auto": 1} {
		if _, err := clientOf(b).CheckKeys(nodetest.Context(t), setting, shards); err != nil {
			t.Errorf("keyed: %s, %d shards: %v", setting, shards, err)
		}
	}
}

// The bounds: one session in a hundred may change its key (a reader who logs in), a sample of few sessions proves
// nothing and says so.
func TestSampleOfKeys(t *testing.T) {
	for _, tc := range []struct {
		name           string
		sessions       int // each twice
		split          int // of those, under another key the second time
		elsewhere      int // of those, in another partition the second time, under the same key
		refused, doubt bool
	}{
		{"an empty topic", 0, 0, 0, false, true},
		{"nine prove nothing", 9, 9, 0, false, true},
		{"ten prove it", 10, 1, 0, true, false},
		{"all agree", 10, 0, 0, false, false},
		{"one in a hundred", 100, 1, 0, false, false},
		{"two in a hundred", 100, 2, 0, true, false},
		{"partitions", 50, 0, 1, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := nodetest.NewBroker(t, 2)
			var rs []*kgo.Record
			for i := range tc.sessions {
				s := fmt.Sprint("s", i)
				second := nodetest.Record(int32(i%2), s, 2)
				switch {
				case i < tc.split:
					second.Key = []byte("user 7")
				case i < tc.split+tc.elsewhere:
					second.Partition = 1 - second.Partition
				}
				rs = append(rs, nodetest.Record(int32(i%2), s, 1), second)
			}
			rs = append(rs, &kgo.Record{Partition: 0, Key: []byte("x"), Value: []byte("no JSON")},
				&kgo.Record{Partition: 0, Key: []byte("x"), Value: nil})
			b.Produce(rs...)
			notice, err := clientOf(b).CheckKeys(nodetest.Context(t), "auto", 3)
			if errors.Is(err, ErrOtherKeys) != tc.refused || !tc.refused && err != nil || (notice != "") != tc.doubt {
				t.Errorf("%q, %v", notice, err)
			}
		})
	}
}
