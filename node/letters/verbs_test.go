package letters

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/event"
	"deckle/node/nodetest"
	"deckle/node/status"
)

func (w *world) refs(keys ...string) (refs []status.LetterRef) {
	for _, k := range keys {
		refs = append(refs, status.LetterRef{Key: k, Place: w.where[k]})
	}
	return refs
}

func (w *world) request(op status.LetterOp, keys ...string) *status.LetterRequest {
	return &status.LetterRequest{Op: op, Letters: w.refs(keys...), Asker: status.Asker{Principal: "token anna"}}
}

func (w *world) do(q *status.LetterRequest) *status.LetterOutcome {
	w.t.Helper()
	out, err := w.letters().Do(w.ctx, q)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// outcomes are those of an answer's letters, in one line.
func outcomes(o *status.LetterOutcome) string {
	var b strings.Builder
	for _, x := range o.Letters {
		b.WriteString(x.Outcome + " ")
	}
	return strings.TrimSpace(b.String())
}

// replayed are the records of the source topic that came of letters, as a reader of committed records sees them.
func (w *world) replayed() (records []*kgo.Record) {
	w.t.Helper()
	for _, r := range w.all(source) {
		if slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == headerReplay }) {
			records = append(records, r)
		}
	}
	return records
}

// all are the committed records of a topic.
func (w *world) all(name string) (records []*kgo.Record) {
	w.t.Helper()
	cl, err := w.letters().client()
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	tp, err := openTopic(w.ctx, cl, name)
	if errors.Is(err, errNoTopic) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	ends, err := w.Adm.ListCommittedOffsets(w.ctx, name)
	if err != nil {
		w.t.Fatal(err)
	}
	for p := range tp.partitions {
		end, _ := ends.Lookup(name, p)
		if _, err := tp.read(w.ctx, p, 0, end.Offset, func(r *kgo.Record) bool {
			records = append(records, r)
			return true
		}); err != nil {
			w.t.Fatal(err)
		}
	}
	return records
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// A record goes back to its partition, with its key, value and headers, once, however often somebody asks.
func TestReplay(t *testing.T) {
	w := newWorld(t, 2)
	rec := nodetest.Record(1, "s", 1)
	rec.Headers = []kgo.RecordHeader{{Key: "trace", Value: []byte("7")}}
	key := w.put(rec, event.SessionFull)
	q := w.request(status.LetterReplay, key)
	q.DryRun = true
	if out := w.do(q); outcomes(out) != "done" || out.Done != 1 || len(w.replayed()) != 0 ||
		len(w.all(dlq+ReviewSuffix)) != 0 {
		t.Fatalf("a dry run: %+v", out)
	}
	q.DryRun = false
	if out := w.do(q); outcomes(out) != "done" || out.Done != 1 {
		t.Fatalf("%+v", out)
	}
	got := w.replayed()
	if len(got) != 1 || got[0].Partition != 1 || string(got[0].Key) != "s" ||
		string(got[0].Value) != string(rec.Value) ||
		header(got[0], "trace") != "7" || header(got[0], headerReplay) != key || header(got[0], headerCount) != "1" {
		t.Fatalf("%+v", got)
	}
	for _, dry := range []bool{false, true} {
		q.DryRun = dry
		if out := w.do(q); outcomes(out) != "already" || !strings.Contains(out.Letters[0].Why, "token anna") {
			t.Errorf("once more: %+v", out)
		}
	}
	if n := len(w.replayed()); n != 1 {
		t.Errorf("%d records", n)
	}
	l := w.list(status.LetterQuery{State: status.LetterReplayed})
	if len(l) != 1 || l[0].Review == nil || l[0].Review.Times != 1 || l[0].Review.By != "token anna" {
		t.Errorf("%+v", l)
	}
	q.DryRun, q.Again = false, true
	if out := w.do(q); outcomes(out) != "done" || len(w.replayed()) != 2 {
		t.Errorf("on purpose: %+v, %d records", out, len(w.replayed()))
	}
}

// What cannot be replayed is told, letter by letter, and keeps the others from nothing.
func TestReplayRefuses(t *testing.T) {
	w := newWorld(t, 2)
	w.judge.Horizon = time.Now().Add(-time.Hour).Unix()
	record := func(i int) *kgo.Record { return nodetest.Record(0, "s", i) }
	old := record(1)
	old.Value = nodetest.EventJSONAt("s", 1, "search", time.Now().Add(-2*time.Hour))
	unkeyed := record(2)
	unkeyed.Key = nil
	var keys []string
	want := map[string]string{}
	add := func(outcome string, rec *kgo.Record, change ...func(*kgo.Record)) {
		key := w.put(rec, event.SessionFull, change...)
		keys, want[key] = append(keys, key), outcome
	}
	add("too late again", old)
	add("letter again: malformed", &kgo.Record{Key: []byte("s"), Value: []byte("{")})
	add("no key", unkeyed)
	add("", record(3))
	add("", record(4), func(r *kgo.Record) { r.Value = r.Value[:9] }, without("", "truncated", "true")) // Kafka has it
	add("has it no more", record(5), func(r *kgo.Record) { r.Value = r.Value[:9] },
		without("sha256", "sha256", strings.Repeat("0", 64))) // another record stands there
	add("", record(6), func(r *kgo.Record) { r.Value = []byte{} }, without("sha256 length", "value", "none"))
	add("has it no more", record(7), func(r *kgo.Record) { r.Value = []byte{} },
		without("sha256 length source_timestamp", "value", "none", "source_timestamp", "2026-01-01T00:00:00.000Z"))
	add("has it no more", record(8), func(r *kgo.Record) { r.Value = []byte(`{"x":"text of 1 byte"}`) },
		without("sha256 length", "value", "masked"))
	add("not of topic", record(9), func(r *kgo.Record) { r.Key = []byte("former/0/9") })
	row := w.put(record(10), event.SinkRejected, func(r *kgo.Record) { r.Key = []byte("sink/events/0/1/s") },
		without("", "sink", "events"))
	keys, want[row] = append(keys, row), "it is a row"
	q := w.request(status.LetterReplay, keys...)
	q.Letters = append(q.Letters, status.LetterRef{Key: "web_clicks/0/99"}, q.Letters[0])
	out := w.do(q)
	done := 0
	for i, x := range out.Letters {
		text := "no such letter"
		switch {
		case i < len(keys):
			text = want[keys[i]]
		case i == len(keys)+1:
			text = "named twice"
		}
		if text == "" && x.Outcome == status.LetterDone {
			done++
		} else if text == "" || x.Outcome != status.LetterRefused || !strings.Contains(x.Why, text) {
			t.Errorf("letter %d, %s: %s %q, want %q", i, x.Key, x.Outcome, x.Why, text)
		}
	}
	if n := len(w.replayed()); n != done || out.Done != 3 || done != 3 {
		t.Errorf("%d records, %d done, %+v", n, done, out)
	}
}

// Where Kafka has the original no more, the letter gives the value, and a session or a user gives the key: that which
// leads to the letter's partition.
func TestReplayWithoutTheOriginal(t *testing.T) {
	w := newWorld(t, 2)
	var keys []string
	for i, session := range []string{"s", "t", "u", "v"} {
		r := nodetest.Record(0, session, i)
		keys = append(keys, w.put(r, event.SessionFull))
	}
	if err := w.DeleteRecords(source, 0, 4); err != nil {
		t.Fatal(err)
	}
	if out := w.do(w.request(status.LetterReplay, keys...)); out.Done != len(keys) {
		t.Fatalf("%+v", out)
	}
	hasher := kgo.StickyKeyPartitioner(nil).ForTopic(source)
	for _, r := range w.replayed() {
		var of string
		for _, session := range []string{"s", "t", "u", "v"} {
			if strings.Contains(string(r.Value), `"session_id":"`+session+`"`) {
				of = session
			}
		}
		if key := string(r.Key); r.Partition != 0 || key != of && (key != "7" || hasher.Partition(r, 2) != 0) {
			t.Errorf("session %s, key %s, partition %d", of, key, r.Partition)
		}
	}
}

// A record that becomes a letter again is replayed twice, and then only on purpose.
func TestThirdReplay(t *testing.T) {
	w := newWorld(t, 1)
	rec := nodetest.Record(0, "s", 1)
	for i, want := range []string{"done", "done", "refused"} {
		key := w.put(rec, event.SessionFull)
		q := w.request(status.LetterReplay, key)
		if out := w.do(q); outcomes(out) != want {
			t.Fatalf("replay %d: %+v", i+1, out)
		}
		if want == "refused" {
			if q.Again = true; outcomes(w.do(q)) != "done" {
				t.Error("not on purpose either")
			}
			break
		}
		all := w.replayed()
		rec = &kgo.Record{Key: rec.Key, Value: rec.Value, Headers: all[len(all)-1].Headers}
	}
}

// A purged letter is gone from its topic, and counts as decided.
func TestPurge(t *testing.T) {
	w := newWorld(t, 2)
	keys := []string{w.put(nodetest.Record(0, "s", 1), event.TooLate), w.put(nodetest.Record(1, "t", 2), event.TooLate)}
	q := w.request(status.LetterPurge, keys[0])
	q.DryRun = true
	if out := w.do(q); out.Done != 1 || len(w.list(status.LetterQuery{})) != 2 {
		t.Fatalf("a dry run: %+v", out)
	}
	q.DryRun = false
	if out := w.do(q); out.Done != 1 {
		t.Fatalf("%+v", out)
	}
	if got := keysOf(w.list(status.LetterQuery{})); !slices.Equal(got, keys[1:]) {
		t.Errorf("%v", got)
	}
	if out := w.do(w.request(status.LetterReplay, keys[0])); out.Done != 0 || len(w.replayed()) != 0 {
		t.Errorf("replayed all the same: %+v", out)
	}
	if out := w.do(w.request(status.LetterPurge, keys...)); outcomes(out) != "already done" {
		t.Errorf("%+v", out)
	}
}

// What somebody has mended goes in the place of the letter's value, unless it would be a letter again.
func TestEdit(t *testing.T) {
	w := newWorld(t, 1)
	key := w.put(&kgo.Record{Key: []byte("s"), Value: []byte(`{"session_id":"s"`)}, event.Malformed)
	q := w.request(status.LetterEdit, key)
	q.Value = []byte(`{"session_id":"s"}`)
	if out := w.do(q); out.Refused != 1 || !strings.Contains(out.Letters[0].Why, "letter again") {
		t.Fatalf("%+v", out)
	}
	q.Value = nodetest.EventJSON("s", 1, "search")
	if out := w.do(q); out.Done != 1 {
		t.Fatalf("%+v", out)
	}
	if got := w.replayed(); len(got) != 1 || string(got[0].Value) != string(q.Value) || string(got[0].Key) != "s" {
		t.Errorf("%+v", got)
	}
	reviews := w.all(dlq + ReviewSuffix)
	if len(reviews) != 1 || !strings.Contains(string(reviews[0].Value), `"edited":true`) ||
		strings.Count(string(reviews[0].Value), `"sha256`) != 2 {
		t.Errorf("%s", reviews[0].Value)
	}
}

// A topic that forgets what was decided is refused: its letters could be replayed twice.
func TestReviewTopicMustKeep(t *testing.T) {
	w := newWorld(t, 1)
	policy := "delete"
	config := map[string]*string{"cleanup.policy": &policy}
	if _, err := w.Adm.CreateTopic(w.ctx, 1, 1, config, dlq+ReviewSuffix); err != nil {
		t.Fatal(err)
	}
	key := w.put(nodetest.Record(0, "s", 1), event.SessionFull)
	_, err := w.letters().Do(w.ctx, w.request(status.LetterReplay, key))
	if !errors.Is(err, status.ErrRefused) || !strings.Contains(err.Error(), "cleanup.policy=compact") ||
		len(w.replayed()) > 0 {
		t.Errorf("%v, %d records", err, len(w.replayed()))
	}
}

// verdict is what becomes of a request on its way.
type verdict int

const (
	passes  verdict = iota
	unsent          // the connection ends before it
	unheard         // the broker has answered, and the connection ends before the answer is read
)

// wire is the way of a client's requests; judge is asked about each, by its key and its number from 1 on.
type wire struct {
	judge func(key int16, n int) verdict

	mu   sync.Mutex
	seen []int16
}

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	v := w.judge(-1, 0)
	w.mu.Unlock()
	if v != passes {
		return nil, errors.New("cut off")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	return &wired{Conn: c, w: w}, err
}

type wired struct {
	net.Conn
	w    *wire
	deaf atomic.Bool
}

// Write is called once for each request.
func (c *wired) Write(b []byte) (int, error) {
	c.w.mu.Lock()
	key := int16(binary.BigEndian.Uint16(b[4:]))
	if key != int16(kmsg.ApiVersions) {
		c.w.seen = append(c.w.seen, key)
	}
	v := c.w.judge(key, len(c.w.seen))
	c.w.mu.Unlock()
	switch v {
	case unsent:
		_ = c.Close()
		return 0, errors.New("cut off")
	case unheard:
		c.deaf.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *wired) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.deaf.Load() {
		_ = c.Close()
		return 0, errors.New("cut off")
	}
	return n, err
}

func (w *wire) opts() []kgo.Opt {
	return []kgo.Opt{kgo.Dialer(w.dial), kgo.RequestRetries(2), kgo.RetryBackoffFn(func(int) time.Duration {
		return time.Millisecond
	})}
}

// A process that replays ends at each of its requests, before the broker has it and after the broker has answered:
// whatever the next one finds, each record is there once in the end, with its review.
func TestReplayKilledAtEachRequest(t *testing.T) {
	w := newWorld(t, 1)
	purged := w.put(nodetest.Record(0, "x", 0), event.SessionFull)
	w.do(w.request(status.LetterPurge, purged)) // the review topic is there
	letters := 0
	replay := func(at int, how verdict) (requests []int16, err error) {
		t.Helper()
		letters++
		letter := w.put(nodetest.Record(0, "s", letters), event.SessionFull)
		ctx, kill := context.WithCancel(w.ctx)
		defer kill()
		dead := false
		way := &wire{judge: func(_ int16, n int) verdict {
			switch {
			case dead:
				return unsent
			case n == at && at > 0:
				dead = true
				kill()
				return how
			}
			return passes
		}}
		l := w.letters(way.opts()...)
		l.patience = 20 * time.Millisecond
		_, err = l.Do(ctx, w.request(status.LetterReplay, letter))
		return way.seen, err
	}
	requests, err := replay(0, passes)
	if err != nil || !slices.Contains(requests, int16(kmsg.EndTxn)) || !slices.Contains(requests, int16(kmsg.Produce)) {
		t.Fatalf("%v %v", requests, err)
	}
	for _, how := range []verdict{unsent, unheard} {
		for at := range requests {
			_, err := replay(at+1, how)
			last := w.list(status.LetterQuery{State: status.LetterOpen})
			before := len(w.replayed())
			if len(last) > 0 { // it is open still
				if out := w.do(w.request(status.LetterReplay, last[0].Key)); out.Done != 1 {
					t.Errorf("request %d (%d), %d: %v, and then %+v", at+1, requests[at], how, err, out)
				}
			}
			decided := len(w.list(status.LetterQuery{State: status.LetterReplayed}))
			if n := len(w.replayed()); n != letters || decided != n {
				t.Fatalf("request %d (%d), %d: %d records, before %d, %d decided, of %d letters", at+1, requests[at],
					how, n, before, decided, letters)
			}
		}
	}
}

// The answer to a commit is lost, and the client's repeats with it: whether it was committed is found out, and told.
func TestCommitWithoutAnswer(t *testing.T) {
	for _, how := range []verdict{unheard, unsent} {
		w := newWorld(t, 1)
		letter := w.put(nodetest.Record(0, "s", 1), event.SessionFull)
		ended := 0
		way := &wire{judge: func(key int16, _ int) verdict {
			if key != int16(kmsg.EndTxn) {
				return passes
			}
			if ended++; ended == 1 {
				return how
			}
			return unsent
		}}
		out, err := w.letters(way.opts()...).Do(w.ctx, w.request(status.LetterReplay, letter))
		switch {
		case ended < 1:
			t.Fatal("no commit")
		case how == unheard && (err != nil || out.Done != 1):
			t.Errorf("committed: %+v, %v", out, err)
		case how == unsent && !errors.Is(err, status.ErrRefused):
			t.Errorf("not committed: %+v, %v", out, err)
		}
		w.do(w.request(status.LetterReplay, letter))
		if n := len(w.replayed()); n != 1 {
			t.Errorf("%d: %d records", how, n)
		}
	}
}

// Of two operators the later one comes first; the earlier one changes nothing, and says so.
func TestTwoOperators(t *testing.T) {
	w := newWorld(t, 1)
	letter := w.put(nodetest.Record(0, "s", 1), event.SessionFull)
	other := w.put(nodetest.Record(0, "s", 2), event.SessionFull)
	first := w.letters()
	p, err := first.fence(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if out := w.do(w.request(status.LetterReplay, letter)); out.Done != 1 {
		t.Fatalf("%+v", out)
	}
	err = p.commit(w.ctx, []*kgo.Record{{Topic: source, Partition: 0, Key: []byte("s"), Value: []byte("{}"),
		Headers: []kgo.RecordHeader{{Key: headerReplay, Value: []byte(other)}}}})
	if !errors.Is(err, errOthers) {
		t.Errorf("%v", err)
	}
	if n := len(w.replayed()); n != 1 {
		t.Errorf("%d records", n)
	}
	done, err := first.enter("anna")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Do(w.ctx, w.request(status.LetterReplay, other)); !errors.Is(err, status.ErrRefused) ||
		!strings.Contains(err.Error(), "by anna since") {
		t.Errorf("on the same node: %v", err)
	}
	done()
}

// What another operator commits before this one has fenced them is seen: the decisions are read behind the fence.
func TestReplayReadsBehindTheFence(t *testing.T) {
	w := newWorld(t, 1)
	letter := w.put(nodetest.Record(0, "s", 1), event.SessionFull)
	once := false
	way := &wire{judge: func(key int16, _ int) verdict {
		if key == int16(kmsg.InitProducerID) && !once {
			once = true
			if out := w.do(w.request(status.LetterReplay, letter)); out.Done != 1 {
				t.Errorf("the other operator: %+v", out)
			}
		}
		return passes
	}}
	out, err := w.letters(way.opts()...).Do(w.ctx, w.request(status.LetterReplay, letter))
	if err != nil || outcomes(out) != "already" || !once || len(w.replayed()) != 1 {
		t.Errorf("%+v, %v, %d records", out, err, len(w.replayed()))
	}
}
