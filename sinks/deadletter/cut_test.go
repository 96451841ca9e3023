package deadletter

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"deckle/event"
	"deckle/sinks"
	"deckle/state"
)

// createDLQ makes the topic of the letters with a bound of its own, as an operator may have.
func createDLQ(t *testing.T, kafka []kgo.Opt, partitions int32, maxBytes string) {
	t.Helper()
	cl, err := kgo.NewClient(kafka...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	policy := "compact"
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), partitions, 1,
		map[string]*string{"cleanup.policy": &policy, "max.message.bytes": &maxBytes}, "web_clicks.dlq"); err != nil {
		t.Fatal(err)
	}
}

// noise are bytes that no codec makes smaller; each seed has its own.
func noise(n, seed int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// openTold opens a sink that notes what it passes.
func openTold(t *testing.T, o *originals, kafka []kgo.Opt, reg prometheus.Registerer) (*Sink, *[]string) {
	t.Helper()
	told := &[]string{}
	s, err := Open(t.Context(), Options{Kafka: kafka, Topic: "web_clicks", Timeout: 10 * time.Second, Registerer: reg,
		Originals:     func(uint32) sinks.EventSource { return o },
		Undeliverable: func(text string) { *told = append(*told, text) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, told
}

// caseRecords reads the values of a field report's input.
func caseRecords(t *testing.T, path string) [][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out [][]byte
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r struct {
			Text   string `json:"text"`
			Repeat int    `json:"repeat"`
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		for range max(r.Repeat, 1) {
			out = append(out, []byte(r.Text))
		}
	}
	if len(out) == 0 {
		t.Fatal("no records")
	}
	return out
}

// Field report F21: the topic takes 20,000 bytes, and one broken record has 40 KB. All later letters waited behind it
// for ever. It goes shorter, and the others as they are.
func TestLetterThatDoesNotFit(t *testing.T) {
	_, kafka := newCluster(t)
	createDLQ(t, kafka, 1, "20000")
	o := &originals{values: map[state.Position][]byte{}}
	s, told := openTold(t, o, kafka, nil)
	var letters []state.DeadLetter
	values := append(caseRecords(t, "testdata/F21.jsonl"), []byte("{"), []byte("}"))
	for i, v := range values {
		letters = append(letters, o.letter(uint64(i), 7, event.Malformed, v))
	}
	if err := s.Write(t.Context(), plan(letters...)); err != nil {
		t.Fatal(err)
	}
	got := map[string]*kgo.Record{}
	for _, r := range readAll(t, kafka) {
		got[string(r.Key)] = r
	}
	for i, v := range values {
		r := got[fmt.Sprintf("web_clicks/%d/%d", i%2, 100+i)]
		if r == nil {
			t.Fatalf("letter %d is missing: %d letters", i, len(got))
		}
		cut := headersOf(r)["truncated"] == "true"
		if cut != (len(v) > 19_000) || !cut && !bytes.Equal(r.Value, v) || !bytes.HasPrefix(v, r.Value) {
			t.Errorf("letter %d of %d bytes: %d bytes, truncated %v", i, len(v), len(r.Value), cut)
		}
		if len(v) > 19_000 && (len(r.Value) < 5_000 || headersOf(r)["length"] != fmt.Sprint(len(v))) {
			t.Errorf("letter %d keeps %d bytes of %d, length %s", i, len(r.Value), len(v), headersOf(r)["length"])
		}
	}
	if len(got) != len(values) || len(*told) != 0 {
		t.Errorf("%d letters of %d; undeliverable %q", len(got), len(values), *told)
	}
}

// A letter whose topic takes only key and reason, and one that it does not take at all: the first says what it can, the
// second is counted, told with its position and passed, and both hold up nobody.
func TestLetterThatNeverFits(t *testing.T) {
	_, kafka := newCluster(t)
	createDLQ(t, kafka, 1, "220")
	o := &originals{values: map[state.Position][]byte{}}
	reg := prometheus.NewRegistry()
	s, told := openTold(t, o, kafka, reg)
	bare := o.letter(0, 7, event.Malformed, noise(5000, 0))
	bare.Detail = hex.EncodeToString(noise(120, 0))
	never := state.DeadLetter{Seq: 1, Epoch: 7, Reject: event.Reject{Reason: event.SinkRejected, Detail: "no"},
		Sink: state.SinkClickHouse, RowKey: hex.EncodeToString(noise(300, 0)) + "\x000/17", Row: []byte(`{}`)}
	if err := s.Write(t.Context(), plan(bare, never)); err != nil {
		t.Fatal(err)
	}
	records := readAll(t, kafka)
	if len(records) != 1 || string(records[0].Key) != "web_clicks/0/100" || records[0].Value == nil {
		t.Fatalf("%d records: %v", len(records), records)
	}
	if h := headersOf(records[0]); h["reason"] != "malformed" || h["truncated"] != "true" || len(h) != 2 {
		t.Errorf("headers %v", h)
	}
	if n := testutil.ToFloat64(s.undeliverable.WithLabelValues("sink_rejected")); n != 1 {
		t.Errorf("%v counted as undeliverable", n)
	}
	if len(*told) != 1 || !strings.Contains((*told)[0], "sink/clickhouse/4/7/"+hex.EncodeToString(noise(300, 0))) ||
		!strings.Contains((*told)[0], "MESSAGE_TOO_LARGE") {
		t.Errorf("told %q", *told)
	}
}

// A broker refuses batches, and the client fails what waits for the same partition with them: letters that each fit
// must all arrive, whole, whatever lay beside them.
func TestNeighboursOfALetterThatDoesNotFit(t *testing.T) {
	_, kafka := newCluster(t)
	createDLQ(t, kafka, 1, "4000")
	o := &originals{values: map[state.Position][]byte{}}
	s, _ := openTold(t, o, kafka, nil)
	var letters []state.DeadLetter
	for i := range uint64(60) {
		size := 1000
		if i%20 == 7 {
			size = 30_000
		}
		letters = append(letters, o.letter(i, 7, event.Malformed, noise(size, int(i))))
	}
	if err := s.Write(t.Context(), plan(letters...)); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, r := range readAll(t, kafka) {
		got[string(r.Key)] = len(r.Value)
	}
	for i := range 60 {
		n := got[fmt.Sprintf("web_clicks/%d/%d", i%2, 100+i)]
		if i%20 == 7 && (n == 0 || n >= 4000) || i%20 != 7 && n != 1000 {
			t.Errorf("letter %d has %d bytes", i, n)
		}
	}
}

// The shards share the clients: what several of them produce again must not meet in one batch either.
func TestShardsProduceAgainSideBySide(t *testing.T) {
	_, kafka := newCluster(t)
	createDLQ(t, kafka, 1, "3500")
	o := &originals{values: map[state.Position][]byte{}}
	s, told := openTold(t, o, kafka, nil)
	const shards, each = 6, 25
	plans := make([]*state.Plan, shards)
	for i := range plans {
		var letters []state.DeadLetter
		for k := range each {
			letters = append(letters, o.letter(uint64(each*i+k), 7, event.Malformed, noise(2000, each*i+k)))
		}
		plans[i] = plan(letters...)
	}
	var all errgroup.Group
	for _, p := range plans {
		all.Go(func() error { return s.Write(t.Context(), p) })
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, r := range readAll(t, kafka) {
		if len(r.Value) == 2000 {
			whole++
		}
	}
	if whole != shards*each || len(*told) != 0 {
		t.Errorf("%d letters of %d are whole; undeliverable %q", whole, shards*each, *told)
	}
}

// The other refusals of one record: what a validating broker says, and a topic that bounds timestamps, which the
// epoch's clock of a backlog does not meet.
func TestOtherRefusals(t *testing.T) {
	for _, refusal := range []*kerr.Error{kerr.InvalidRecord, kerr.RecordListTooLarge, kerr.InvalidTimestamp} {
		t.Run(refusal.Message, func(t *testing.T) {
			c, kafka := newCluster(t)
			o := &originals{values: map[state.Position][]byte{}}
			s, told := openTold(t, o, kafka, nil)
			// The first letter is refused, however it is sent; against a bound of timestamps a new one helps.
			f := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "web_clicks.dlq", Err: refusal, Count: -1,
				When: func(r kmsg.Request) bool { return holdsLetter(r, "web_clicks/0/100", refusal) }})
			defer f.Remove()
			p := plan(o.letter(0, 7, event.Malformed, []byte("first")),
				o.letter(1, 7, event.Malformed, []byte("second")))
			if err := s.Write(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			keys := map[string]bool{}
			for _, r := range readAll(t, kafka) {
				keys[string(r.Key)] = true
			}
			delivered := refusal == kerr.InvalidTimestamp
			if !keys["web_clicks/1/101"] || keys["web_clicks/0/100"] != delivered || (len(*told) == 0) != delivered {
				t.Errorf("keys %v, undeliverable %q", keys, *told)
			}
		})
	}
}

// holdsLetter says whether a request produces the letter; for a bound of timestamps, with a timestamp that is old.
func holdsLetter(r kmsg.Request, key string, refusal *kerr.Error) bool {
	req, ok := r.(*kmsg.ProduceRequest)
	if !ok {
		return false
	}
	for _, topic := range req.Topics {
		for _, p := range topic.Partitions {
			var b kmsg.RecordBatch
			if err := b.ReadFrom(p.Records); err != nil {
				return false
			}
			old := time.UnixMilli(b.FirstTimestamp).Before(time.Now().Add(-time.Hour))
			if bytes.Contains(p.Records, []byte(key)) && (refusal != kerr.InvalidTimestamp || old) {
				return true
			}
		}
	}
	return false
}

// A partition whose original cannot be read holds up the letters of no other partition, and its own for a bounded time:
// then the letter goes without the original.
func TestOriginalThatCannotBeRead(t *testing.T) {
	_, kafka := newCluster(t)
	o := &originals{values: map[state.Position][]byte{}}
	now := time.Unix(1_700_000_000, 0)
	s := openSink(t, o, kafka, 10*time.Second)
	s.opts.Now = func() time.Time { return now }
	bad, behind := o.letter(0, 7, event.Malformed, []byte("bad")), o.letter(2, 7, event.Malformed, []byte("behind"))
	p := plan(bad, behind, o.letter(1, 7, event.Malformed, []byte("beside")))
	o.unreadable = map[state.Position]error{{Partition: 0, Offset: 100}: &sinks.UnreadableError{Err: errors.New("crc")}}
	keys := func() map[string]string {
		out := map[string]string{}
		for _, r := range readAll(t, kafka) {
			out[string(r.Key)] = string(r.Value) + headersOf(r)["original_lost"]
		}
		return out
	}
	err := s.Write(t.Context(), p)
	if err == nil || !strings.Contains(err.Error(), "web_clicks/0/100") {
		t.Fatalf("an original that cannot be read: %v", err)
	}
	if got := keys(); len(got) != 1 || got["web_clicks/1/101"] != "beside" {
		t.Fatalf("after the first Write: %v", got)
	}
	now = now.Add(patience)
	if err := s.Write(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if got := keys(); got["web_clicks/0/100"] != "true" || got["web_clicks/0/102"] != "behind" {
		t.Errorf("after the patience: %v", got)
	}
	// What passes by itself is waited for, however long: Kafka has the original.
	o.unreadable = map[state.Position]error{{Partition: 0, Offset: 100}: errors.New("no leader")}
	for range 3 {
		now = now.Add(patience)
		if err := s.Write(t.Context(), p); err == nil {
			t.Fatal("a partition without a leader was given up")
		}
	}
}

// An account that may only read (field report F26): the error names topic and right, nothing is lost, and the Write
// goes on once the right is there.
func TestMissingRight(t *testing.T) {
	c, kafka := newCluster(t)
	o := &originals{values: map[state.Position][]byte{}}
	createDLQ(t, kafka, 1, "1000000")
	s, _ := openTold(t, o, kafka, nil)
	p := plan(o.letter(0, 7, event.Malformed, []byte("x")))
	for key, want := range map[kmsg.Key]string{
		kmsg.Produce: `Write on topic "web_clicks.dlq"`, kmsg.Metadata: `Write on topic "web_clicks.dlq"`,
	} {
		s.topicOK.Store(key != kmsg.Metadata)
		f := c.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Topic: "web_clicks.dlq", Err: kerr.TopicAuthorizationFailed,
			Count: -1})
		if key == kmsg.Metadata {
			s, _ = openTold(t, o, kafka, nil) // another client, whose cache is empty
		}
		err := s.Write(t.Context(), p)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v does not name %s", key, err, want)
		}
		f.Remove()
	}
	var err error
	for range 100 { // the client keeps what it was told of the topic for a few seconds
		if err = s.Write(t.Context(), p); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil || len(readAll(t, kafka)) != 1 {
		t.Errorf("after it: %v", err)
	}
}
