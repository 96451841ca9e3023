package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/access"
	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/node/status"
	"deckle/schema/level"
	"deckle/state"
)

var admin = status.Asker{Principal: "token:k3f9x2ab", Name: "ops", Role: "admin", Request: "0123456789abcdef"}

// suppressors is a cluster of three nodes and three shards, at level 3.
func suppressors(t *testing.T, adapt func(*Deps)) *cluster {
	t.Helper()
	c := newCluster(t, nodetest.NewBroker(t, 3), 3, func(cfg *config.Config) { cfg.Cluster.Shards = 3 })
	c.adapt = adapt
	for i := range c.nodes {
		c.start(i)
	}
	nodetest.Until(t, "every node knows level 3 and the leaders of all shards", func() bool {
		for _, n := range c.nodes {
			if len(n.shardList()) != 3 {
				return false
			}
			for _, s := range n.shardList() {
				if s.Store().Peek().Level < level.Guarded || s.Leader() == "" {
					return false
				}
			}
		}
		return true
	})
	return c
}

// do asks a node until it does what is asked, whoever leads meanwhile.
func (c *cluster) do(t *testing.T, n *Node, op status.ListOp, users ...string) (out *status.ListOutcome) {
	t.Helper()
	q := &status.ListRequest{Op: op, Users: users, Asker: admin}
	nodetest.Until(t, string(op), func() bool {
		var err error
		if out, err = n.commands.lists.Do(nodetest.Context(t), q); err != nil {
			t.Log(err)
			return false
		}
		return out.Whole
	})
	return out
}

// same waits until every replica of every shard has the same list, and returns it.
func (c *cluster) same(t *testing.T) (list *event.Suppression) {
	t.Helper()
	nodetest.Until(t, "the same list everywhere", func() bool {
		list = c.nodes[0].Store(0).Suppression()
		for _, n := range c.nodes {
			for _, s := range n.shardList() {
				x := s.Store().Suppression()
				if x.SaltID != list.SaltID || x.Len() != list.Len() || x.Sum != list.Sum {
					return false
				}
			}
		}
		return true
	})
	return list
}

// Any node takes the verbs. A reader who was added is in no sink and no letter from then on, and counts again after the
// removal. Each change comes to every shard, to repeat it is harmless, and a check knows where it is.
func TestSuppressVerbs(t *testing.T) {
	t.Parallel()
	c := suppressors(t, nil)
	flows := 0
	produce := func(user int, broken string) {
		r := ofUser(user, flows, broken)
		c.b.Produce(&kgo.Record{Key: r.Key, Value: r.Value, Partition: int32(user % 3)})
		flows++
	}
	left := func() int64 {
		return c.sum(func(v *state.View) int64 { return v.RuleCounts.SuppressedUsers })
	}
	produce(7, "")
	produce(8, "")
	nodetest.Until(t, "both count", func() bool { return c.sum(applied) == 2 })
	lead, _, _ := c.leader(0)
	asked, other := c.nodes[(lead+1)%3], c.nodes[(lead+2)%3]
	nodetest.Until(t, "the replicas of the node that is asked have them", func() bool {
		n := int64(0)
		for _, s := range asked.shardList() {
			n += s.Store().Peek().Applied
		}
		return n == 2
	})

	if out := c.do(t, asked, status.ListRemove, "7"); out.Changed != 0 {
		t.Errorf("a removal before there is a list: %+v", out)
	}
	out := c.do(t, asked, status.ListAdd, "7", "text")
	if out.Readers != 2 || len(out.Hash) != 64 || len(out.Shards) != 3 || len(out.NotStopped) == 0 {
		t.Errorf("%+v", out)
	}
	if !slices.Equal(out.OpenSessions, []string{"s7"}) || !out.SessionsWhole {
		t.Errorf("open sessions %q, all %t", out.OpenSessions, out.SessionsWhole)
	}
	list := c.same(t)
	if list.Len() != 2 || list.Salt == (event.Salt{}) {
		t.Fatalf("%d readers", list.Len())
	}
	if out := c.do(t, other, status.ListAdd, "7"); out.Changed != 0 || out.Readers != 2 || out.Hash == "" {
		t.Errorf("added twice: %+v", out)
	}
	for range 5 {
		produce(7, "")
		produce(7, "broken")
		produce(8, "")
	}
	nodetest.Until(t, "one counts", func() bool { return c.sum(applied) == 7 && left() == 10 })
	found := c.do(t, other, status.ListCheck, "7", "8").Found
	if len(found) != 2 || !found[0].Listed || found[0].Since == nil || !slices.Equal(found[0].Shards,
		[]uint32{0, 1, 2}) || found[1].Listed || found[1].Since != nil || len(found[1].Without) != 3 {
		t.Errorf("%+v", found)
	}
	page, err := other.commands.lists.Page(0, 1)
	if err != nil || page.Readers != 2 || len(page.Listings) != 1 || page.Next == nil || *page.Next != 1 ||
		page.Listings[0].By != "token:k3f9x2ab ops" {
		t.Errorf("%+v, %v", page, err)
	}
	next, err := other.commands.lists.Page(1, 1)
	if err != nil || len(next.Listings) != 1 || next.Next != nil || next.Listings[0].Hash == page.Listings[0].Hash {
		t.Errorf("%+v, %v", next, err)
	}
	c.do(t, asked, status.ListRemove, "7")
	if c.same(t).Len() != 1 {
		t.Error("it is still listed")
	}
	produce(7, "")
	nodetest.Until(t, "it is let in again", func() bool { return c.sum(applied) == 8 && left() == 10 })
	nodetest.Until(t, "the table has it", func() bool {
		c.table.mu.Lock()
		defer c.table.mu.Unlock()
		return c.table.sessions[rowOf(c.table, "s7")].TotalEvents == 2
	})
	if letters := c.table.copyLetters(); len(letters) > 0 {
		t.Errorf("letters %v", letters)
	}
}

func rowOf(t *table, session string) string {
	for k, r := range t.sessions {
		if r.SessionID == session {
			return k
		}
	}
	return ""
}

// Nodes that are the first to add, all at once, draw a salt each, and one of these is everybody's.
func TestOneSalt(t *testing.T) {
	t.Parallel()
	var draws atomic.Int64
	c := suppressors(t, func(d *Deps) { d.Random = saltSource{&draws} })
	var all sync.WaitGroup
	for i, n := range c.nodes {
		for j := range 3 {
			all.Go(func() { c.do(t, n, status.ListAdd, fmt.Sprint("u", 3*i+j)) })
		}
	}
	all.Wait()
	if list := c.same(t); list.Len() != 9 || draws.Load() == 0 {
		t.Errorf("%d readers", list.Len())
	}
	if draws.Load() < 2 {
		t.Log("only one node has drawn a salt")
	}
}

// saltSource gives another salt each time.
type saltSource struct{ n *atomic.Int64 }

func (s saltSource) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s.n.Load() + 1)
	}
	s.n.Add(1)
	return len(b), nil
}

// What reached only some shards is told after a minute, and a repair makes all of them what shard 0 is: it adds what a
// shard lacks and takes away what shard 0 has not, so a withdrawn objection does not come back.
func TestSuppressRepair(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	c := suppressors(t, func(d *Deps) {
		d.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	n := c.nodes[0]
	c.do(t, n, status.ListAdd, "1", "2", "3")
	salt := c.same(t).Salt
	direct := func(shard uint32, op status.ListOp, users ...string) {
		q := &status.ListRequest{Op: op, Users: users, Asker: admin}
		nodetest.Until(t, "a change of one shard", func() bool {
			_, err := n.commands.lists.call(nodetest.Context(t), &listCall{Op: listChange, Verb: op, Asker: admin,
				Shard: shard, Salt: salt, Listings: listingsOf(q, salt)})
			return err == nil
		})
	}
	direct(0, status.ListAdd, "4")    // which did not come further
	direct(0, status.ListRemove, "1") // nor did this
	direct(2, status.ListRemove, "2") // and this should not have been
	differs := func() bool { return has(n.Status().Conditions, condition.SuppressionDiffers, "cluster") }
	nodetest.Until(t, "the replicas have it", func() bool {
		return n.Store(0).Suppression().Len() == 3 && n.Store(2).Suppression().Len() == 2 &&
			n.Store(0).Suppression().Sum != n.Store(1).Suppression().Sum
	})
	if differs() {
		t.Error("it is told at once")
	}
	ahead.Store(int64(2 * time.Minute))
	nodetest.Until(t, "it is told", differs)
	found := c.do(t, n, status.ListCheck, "1", "4").Found
	if found[0].Listed || !slices.Equal(found[0].Shards, []uint32{1, 2}) || !found[1].Listed ||
		!slices.Equal(found[1].Without, []uint32{1, 2}) {
		t.Errorf("%+v", found)
	}
	out := c.do(t, n, status.ListRepair)
	if out.Readers != 3 {
		t.Errorf("%+v", out)
	}
	list, lister := c.same(t), event.NewLister(salt)
	for id, want := range map[string]bool{"1": false, "2": true, "3": true, "4": true} {
		x, err := lister.Listing(event.SuppressUser, id)
		if err != nil || list.Has(x.Key()) != want {
			t.Errorf("user %s is listed: %t, %v", id, !want, err)
		}
	}
	nodetest.Until(t, "it is over", func() bool { return !differs() })
	if out := c.do(t, n, status.ListRepair); slices.ContainsFunc(out.Shards, func(s status.ListShard) bool {
		return s.Added+s.Removed > 0
	}) {
		t.Errorf("repaired twice: %+v", out)
	}
}

// Shard 0 is first: if it does not take a change, no other shard has it.
func TestShardZeroIsFirst(t *testing.T) {
	t.Parallel()
	c := suppressors(t, nil)
	c.do(t, c.nodes[0], status.ListAdd, "1")
	c.same(t)
	lead, _, _ := c.leader(0)
	n := c.nodes[(lead+1)%3] // which needs a connection for shard 0
	pass := n.commands.pass
	broken := &commands{self: n.commands.self, access: n.commands.access, audit: n.commands.audit, log: n.commands.log,
		shards: n.commands.shards}
	broken.pass = func(ctx context.Context, node string, what json.RawMessage) (json.RawMessage, error) {
		if bytes.Contains(what, []byte(`"Shard":0`)) {
			return nil, errors.New("the connection breaks")
		}
		return pass(ctx, node, what)
	}
	broken.lists = &lists{commands: broken, random: n.deps.Random, now: n.deps.Now}
	_, err := broken.lists.Do(nodetest.Context(t), &status.ListRequest{Op: status.ListAdd, Users: []string{"2"},
		Asker: admin})
	if err == nil || errors.Is(err, status.ErrRefused) {
		t.Errorf("it is known what has become of it: %v", err)
	}
	if list := c.same(t); list.Len() != 1 {
		t.Errorf("%d readers", list.Len())
	}
}

// What is refused changes nothing, and no refusal quotes an id.
func TestSuppressRefusals(t *testing.T) {
	t.Parallel()
	c := newCluster(t, nodetest.NewBroker(t, 1), 1, nil)
	n := c.start(0)
	nodetest.Until(t, "level 3", func() bool {
		_, _, s := c.leader(0)
		return s.State.Level >= level.Guarded
	})
	long := strings.Repeat("secret", 50)
	for name, q := range map[string]status.ListRequest{
		"no id":       {Op: status.ListAdd},
		"nobody":      {Op: status.ListAdd, Users: []string{"1", "0"}},
		"empty":       {Op: status.ListAdd, Sessions: []string{""}},
		"long":        {Op: status.ListAdd, Users: []string{long}},
		"no UTF-8":    {Op: status.ListCheck, Users: []string{"secret\xff"}},
		"too many":    {Op: status.ListAdd, Users: slices.Repeat([]string{"secret"}, status.MaxListIDs+1)},
		"no such":     {Op: "drop", Users: []string{"secret"}},
		"repair ids":  {Op: status.ListRepair, Users: []string{"secret"}},
		"bad session": {Op: status.ListRemove, Sessions: []string{"secret", ""}},
	} {
		q.Asker = admin
		_, err := n.commands.lists.Do(nodetest.Context(t), &q)
		if !errors.Is(err, status.ErrRefused) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n.Store(0).Suppression().Len() != 0 {
		t.Error("something was listed")
	}
}

// What is asked of another node cannot be taken for a skip of partition 0 by a version that knows no list, which
// answers that it cannot read it. That is a refusal. Nor does this version take it from whoever may not ask it.
func TestListCallsOfOtherVersions(t *testing.T) {
	c := &listCall{Op: listChange, Verb: status.ListAdd, By: "n1", Asker: admin, Salt: event.Salt{1},
		Listings: packedListings{{Kind: event.SuppressUser, Fast: 7, Hash: [32]byte{9}}}}
	what, err := c.encode()
	if err != nil {
		t.Fatal(err)
	}
	var old status.Command
	if err := json.Unmarshal(what, &old); err == nil {
		t.Errorf("an earlier version takes it for %+v", old)
	}
	back, ours, err := listCallOf(what)
	if err != nil || !ours || fmt.Sprint(*back) != fmt.Sprint(*c) {
		t.Errorf("%+v, %t, %v", back, ours, err)
	}
	if _, ours, _ := listCallOf(json.RawMessage(`{"partition":3}`)); ours {
		t.Error("a command of partitions is taken for a call")
	}
	for _, bad := range []string{`["suppressions"]`, `["other",{}]`, `[`, `["suppressions",{"Listings":"AA=="}]`} {
		if _, ours, err := listCallOf(json.RawMessage(bad)); !ours || err == nil {
			t.Errorf("%s: %t, %v", bad, ours, err)
		}
	}
	full := *c
	full.Listings = make(packedListings, status.MaxListIDs)
	for i := range full.Listings {
		full.Listings[i].Kind = event.SuppressSession
	}
	full.Asker.Name = strings.Repeat("x", maxAsker-100)
	if what, err := full.encode(); err != nil || len(what) > 60<<10 {
		t.Errorf("%d bytes, %v: more than fits a frame of 64 KiB", len(what), err)
	}
	for name, x := range map[string]struct {
		change func(*listCall)
		why    string
	}{
		"an operator":       {func(c *listCall) { c.Asker.Role = "operator" }, "role admin is needed"},
		"another's name":    {func(c *listCall) { c.By = "n2" }, "is said to have been asked"},
		"nobody":            {func(c *listCall) { c.Asker = status.Asker{} }, "does not say who asks"},
		"a question":        {func(c *listCall) { c.Op, c.Asker.Role = listInfo, "viewer" }, "role admin is needed"},
		"an administrator":  {func(*listCall) {}, "does not run shard 0"},
		"what is not known": {func(c *listCall) { c.Verb, c.Asker.Role = "partitions", "operator" }, "role admin"},
	} {
		audit, lines := auditOf(t, "n0")
		k := commandsOf(audit)
		y := *c
		x.change(&y)
		what, err := y.encode()
		if err != nil {
			t.Fatal(err)
		}
		var r listReply
		if err := json.Unmarshal(k.obey(t.Context(), "n1", what), &r); err != nil || !r.List || !r.Refused ||
			!strings.Contains(r.Error, x.why) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		for _, l := range lines() {
			if l.Via != "node n1" || l.Target != "shard 0" {
				t.Errorf("%s: %+v", name, l)
			}
		}
	}
}

// The verbs over HTTP, from a node that does not lead: the audit logs of all nodes have the hash and how many ids there
// were, under one request, and no byte of an id.
func TestSuppressAudit(t *testing.T) {
	t.Parallel()
	c := suppressors(t, nil)
	var texts []func() []access.Line
	for i, n := range c.nodes {
		a, lines := auditOf(t, fmt.Sprint("n", i))
		n.http.audit.Store(a)
		texts = append(texts, lines)
	}
	const id, other = "secret-user-7f3a", "secret-session-91bc"
	lead, _, _ := c.leader(0)
	h := c.nodes[(lead+1)%3].Handler()
	post := func(verb, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/suppressions/"+verb, strings.NewReader(body))
		r.Host, r.RemoteAddr = "127.0.0.1", "127.0.0.1:40000"
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	body := fmt.Sprintf(`{"user_ids":[%q],"session_ids":[%q]}`, id, other)
	var out status.ListOutcome
	nodetest.Until(t, "added", func() bool {
		w := post("add", body)
		return w.Code == http.StatusOK && json.Unmarshal(w.Body.Bytes(), &out) == nil && out.Whole
	})
	for _, verb := range []string{"check", "remove"} {
		if w := post(verb, body); w.Code != http.StatusOK || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s", verb, w.Code, w.Body)
		}
	}
	if w := post("add", `{"user_ids":["`+id+`"],"x":1}`); w.Code != 400 || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := post("repair", "{}"); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	hashes := 0
	for i, lines := range texts {
		for _, l := range lines() {
			text, err := json.Marshal(l)
			if err != nil || strings.Contains(string(text), "secret") {
				t.Errorf("node n%d: %s, %v", i, text, err)
			}
			if l.Args["hash"] == out.Hash && l.Args["ids"] == 2.0 && l.Verb == "suppressions.add" {
				hashes++
			}
		}
	}
	if hashes == 0 || len(out.Hash) != 64 {
		t.Errorf("no line has hash %q", out.Hash)
	}
}
