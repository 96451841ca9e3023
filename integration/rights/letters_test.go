package rights

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestReview: with the rights of kafka.sh --letters a letter is mended on a real broker, once, whoever else tries, and
// the node goes on behind the transaction, after it was killed, too. Without any one of those rights deckle dlq says
// which, and nothing has changed.
func TestReview(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	began := time.Now()
	w := newWorld(ctx, t)
	w.grant("--letters")
	t.Logf("rights after %s", time.Since(began).Round(time.Second))
	event := func(id int) string {
		return fmt.Sprintf(`{"event_id":"00000000-0000-4000-8000-%012d","session_id":"s-1","user_id":7,`+
			`"event_type":"search","timestamp":%d}`, id, time.Now().Unix())
	}
	w.produce("s-1", event(1))
	w.produce("s-1", `{"session_id":"s-1"`)
	n := w.local()
	w.letters(1)
	key, file := topic+"/0/1", filepath.Join(t.TempDir(), "record.json")
	must(t, os.WriteFile(file, []byte(event(2)), 0o600))
	dlqCommand := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, w.deckle, append(append([]string{"dlq"}, args...), "--address",
			n.HTTP)...).CombinedOutput()
		return string(out), err
	}
	says := func(what string, args ...string) {
		t.Helper()
		var out string
		began := time.Now()
		w.await(n, "deckle dlq: "+what, func() bool { // the broker takes a list over after a while
			out, _ = dlqCommand(args...) // what it says is what counts
			if !strings.Contains(out, what) {
				t.Logf("after %s: %.600s", time.Since(began).Round(100*time.Millisecond), out)
			}
			return strings.Contains(out, what)
		})
		t.Logf("%q after %s", what, time.Since(began).Round(100*time.Millisecond))
		if !strings.Contains(out, what) {
			t.Errorf("the last answer: %s", out)
		}
	}
	says(key, "list")
	edit := []string{"edit", key, "--file", file, "--yes"}
	var own []kadm.DescribedACL
	for _, d := range w.broker.lists(ctx, t) {
		if d.Type.String() == "TRANSACTIONAL_ID" || d.Name == dlq+".review" ||
			d.Name == topic && d.Operation == kadm.OpWrite || d.Name == dlq && d.Operation == kadm.OpRead {
			own = append(own, d)
		}
	}
	// The first one is that to create the review topic, while there is none.
	if i := slices.IndexFunc(own, func(d kadm.DescribedACL) bool { return d.Operation == kadm.OpCreate }); i > 0 {
		own[0], own[i] = own[i], own[0]
	}
	if len(own) != 7 || own[0].Operation != kadm.OpCreate {
		t.Fatalf("%d lists: %+v", len(own), own)
	}
	for i := range own {
		d := &own[i]
		kind := "topic"
		if d.Type.String() == "TRANSACTIONAL_ID" {
			kind = "transactional id"
		}
		right := fmt.Sprintf("%s on %s %q", camel(d.Operation.String()), kind, d.Name)
		_, err := w.broker.admin.DeleteACLs(ctx, one(d))
		must(t, err)
		t.Logf("without %s", right)
		w.await(n, "the broker has taken it away", func() bool {
			return !slices.Contains(w.broker.lists(ctx, t), *d)
		})
		says("lacks the right "+right, edit...)
		_, err = w.broker.admin.CreateACLs(ctx, one(d))
		must(t, err)
		w.await(n, "the broker has it again", func() bool { return slices.Contains(w.broker.lists(ctx, t), *d) })
	}
	if got := w.committed(); got != 0 {
		t.Fatalf("%d records although it was refused", got)
	}
	says("edited and replayed: 1;", edit...)
	says("Decided already: 1.", edit...)
	if got := w.committed(); got != 1 {
		t.Errorf("%d records", got)
	}
	must(t, n.Kill())
	must(t, n.Start())
	w.produce("s-1", event(3))
	ends, err := w.broker.admin.ListEndOffsets(ctx, topic)
	must(t, err)
	end, _ := ends.Lookup(topic, 0)
	w.await(n, "it goes on behind the transactions", func() bool {
		body, err := n.Read(ctx, "/api/v1/status")
		text := strings.ReplaceAll(string(body), " ", "")
		return err == nil && strings.Contains(text, fmt.Sprintf(`"next_offset":%d`, end.Offset)) &&
			!strings.Contains(text, "partition-stopped")
	})
	says(key, "list", "--state", "replayed", "--json")
}

// committed is how many records of letters a reader of committed records finds in the source topic.
func (w *world) committed() (n int) {
	w.t.Helper()
	ends, err := w.broker.admin.ListCommittedOffsets(w.ctx, topic)
	must(w.t, err)
	end, _ := ends.Lookup(topic, 0)
	cl, err := kgo.NewClient(append(w.broker.as(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
			topic: {0: kgo.NewOffset().AtStart()}}))...)
	must(w.t, err)
	defer cl.Close()
	for next := int64(0); next < end.Offset; {
		fetches := cl.PollFetches(w.ctx)
		must(w.t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			for _, h := range r.Headers {
				if h.Key == "deckle-replay" {
					n++
				}
			}
		})
	}
	return n
}
