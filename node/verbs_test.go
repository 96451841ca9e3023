package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"deckle/node/access"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/node/shard"
	"deckle/node/status"
)

// auditOf opens an audit log, and returns what its lines say: of the verb at hand, by request, in order.
func auditOf(t *testing.T, node string) (*access.Audit, func() []access.Line) {
	t.Helper()
	file, ticks := filepath.Join(t.TempDir(), "audit.jsonl"), 0
	a, err := access.OpenAudit(access.AuditOptions{File: file, Node: node, MaxBytes: 64 << 20,
		Now: func() time.Time { // so slow that each refusal has its line
			ticks++
			return time.Unix(int64(ticks), 0)
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a, func() (lines []access.Line) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var l access.Line
			if err := json.Unmarshal(line, &l); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			lines = append(lines, l)
		}
		return lines
	}
}

// commandsOf are those of node n0, which runs no shards, where nobody has to say who they are.
func commandsOf(audit *access.Audit) *commands {
	k := &commands{self: "n0", access: access.New(access.Options{}), audit: func() *access.Audit { return audit },
		log: slog.New(slog.DiscardHandler), shards: func() []*shard.Shard { return nil }}
	k.lists = &lists{commands: k, now: time.Now}
	return k
}

// A node carries out what another one passes on, if that one speaks for itself and the role reaches here, too. What is
// refused does nothing, whether or not anybody has to say who they are, and has a line in the audit log.
func TestVerbsOfAnotherNode(t *testing.T) {
	const request = "0123456789abcdef"
	asked := func(role string) status.Asker {
		return status.Asker{Principal: "token:k3f9x2ab", Name: "ops", Role: role, Request: request}
	}
	long := asked("operator")
	long.Name = strings.Repeat("x", maxAsker)
	none := asked("admin")
	none.Principal = "none"
	for name, c := range map[string]struct {
		by         string
		asker      status.Asker
		open, auth string // why it is refused without and with authentication; "" if it is not
	}{
		"an operator":      {"n1", asked("operator"), "", ""},
		"an administrator": {"n1", asked("admin"), "", ""},
		"another's name": {"n2", asked("admin"), "node n1 passes on what node \"n2\" is said",
			"node n1 passes on what node \"n2\" is said"},
		"no name":              {"", asked("admin"), "passes on", "passes on"},
		"an analyst":           {"n1", asked("analyst"), "role operator is needed", "role operator is needed"},
		"nobody":               {"n1", asked("none"), "role operator is needed", "role operator is needed"},
		"a role there is not":  {"n1", asked("root"), "role operator is needed", "role operator is needed"},
		"no role":              {"n1", asked(""), "role operator is needed", "role operator is needed"},
		"an earlier version":   {"n1", status.Asker{}, "", "does not say who asks"},
		"its name and no role": {"n2", status.Asker{}, "passes on", "passes on"},
		"no request": {"n1", status.Asker{Principal: "local", Role: "admin"}, "under which request",
			"under which request"},
		"a request that is none": {"n1", status.Asker{Principal: "local", Role: "admin", Request: "0123456789abcdeg"},
			"under which request", "under which request"},
		"no principal":         {"n1", status.Asker{Role: "admin", Request: request}, "does not say", "does not say"},
		"a long name":          {"n1", long, "more than", "more than"},
		"nobody had to say it": {"n1", none, "", "nobody has to say who they are"},
	} {
		for _, auth := range []bool{false, true} {
			audit, lines := auditOf(t, "n0")
			k := commandsOf(audit)
			k.access = access.New(access.Options{Tokens: auth})
			what, err := json.Marshal(status.Command{Partition: 3, From: 5, To: 9, By: c.by, Asker: c.asker})
			if err != nil {
				t.Fatal(err)
			}
			var r commandReply
			if err := json.Unmarshal(k.obey(t.Context(), "n1", what), &r); err != nil {
				t.Fatal(err)
			}
			why, results := c.open, []string{"begun 0", "refused 409"}
			if auth {
				why = c.auth
			}
			if why == "" {
				why = "does not run the shard" // for which it had to be let in
			} else {
				results = []string{"denied 403"}
			}
			if !r.Refused || !strings.Contains(r.Error, why) {
				t.Errorf("%s, auth %v: %+v, want %s", name, auth, r, why)
			}
			var got []string
			for _, l := range lines() {
				got = append(got, fmt.Sprint(l.Result, " ", l.Status))
				if l.Via != "node n1" || l.Verb != "partitions.skip" || l.Target != "partition 3" || len(l.Name) > 100 {
					t.Errorf("%s: %+v", name, l)
				}
			}
			if !slices.Equal(got, results) {
				t.Errorf("%s, auth %v: the audit log has %v, want %v", name, auth, got, results)
			}
		}
	}
	// What cannot be written down is not done.
	audit, _ := auditOf(t, "n0")
	broken := access.AuditOptions{File: filepath.Join(t.TempDir(), "audit.jsonl"), Now: time.Now} // of 0 bytes at most
	if a, err := access.OpenAudit(broken); err == nil {
		_ = a.Close()
		audit = a
	}
	if err := os.RemoveAll(filepath.Dir(broken.File)); err != nil {
		t.Fatal(err)
	}
	k := &commands{self: "n0", access: access.New(access.Options{}), audit: func() *access.Audit { return audit },
		log: slog.New(slog.DiscardHandler), shards: func() []*shard.Shard {
			t.Error("it is carried out")
			return nil
		}}
	what, _ := json.Marshal(status.Command{Partition: 3, Resume: true, By: "n1", Asker: asked("admin")})
	if text := string(k.obey(t.Context(), "n1", what)); !strings.Contains(text, "audit log of node n0 cannot be") {
		t.Error(text)
	}
}

// A verb at a node that does not lead is in the audit logs of both nodes, under the request that the client is told. No
// member can have a verb carried out in another one's name, whatever it writes into the request.
func TestVerbOnBothNodes(t *testing.T) {
	t.Parallel()
	f := certificates(t, 100, "n0", "n1", "n2")
	tokens := filepath.Join(t.TempDir(), "tokens")
	token, secret, err := access.NewToken(access.Operator, nil, "ops", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	text, err := access.FormatTokens([]*access.Token{token})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tokens, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, nodetest.NewBroker(t, 1), 3, func(cfg *config.Config) {
		cfg.Cluster.TLS, cfg.HTTP.Auth = blockOf(f, cfg.Node), &config.HTTPAuth{Tokens: tokens}
	})
	lines := make([]func() []access.Line, 3)
	for i := range 3 {
		n := c.start(i)
		var a *access.Audit
		a, lines[i] = auditOf(t, fmt.Sprint("n", i))
		n.http.audit.Store(a)
	}
	c.level2(t)
	nodetest.Until(t, "every node knows the shard and its leader", func() bool {
		for _, n := range c.nodes {
			if n.commands.shardOf(0) == nil || n.commands.shardOf(0).Leader() == "" {
				return false
			}
		}
		return true
	})
	lead, leader, _ := c.leader(0)
	asked, other := (lead+1)%3, (lead+2)%3
	r := httptest.NewRequest(http.MethodPost, "/api/v1/partitions/resume", strings.NewReader(`{"partition":0}`))
	r.Host, r.RemoteAddr = "127.0.0.1", "127.0.0.1:40000"
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+secret)
	w := httptest.NewRecorder()
	c.nodes[asked].Handler().ServeHTTP(w, r)
	var answer struct{ Request, Detail string }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusConflict ||
		!strings.Contains(answer.Detail, "neither stopped nor failing") {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	for i, via := range map[int]string{asked: "", lead: fmt.Sprint("node n", asked)} {
		got := lines[i]()
		if len(got) != 2 || got[0].Result != "begun" || got[1].Result != "refused" {
			t.Fatalf("node n%d: %+v", i, got)
		}
		for _, l := range got {
			if l.Request != answer.Request || l.Who != "token:"+token.ID || l.Name != "ops" || l.Role != "operator" ||
				l.Via != via || l.Verb != "partitions.resume" || l.Node != fmt.Sprint("n", i) {
				t.Errorf("node n%d, request %s: %+v", i, answer.Request, l)
			}
		}
	}
	if got := lines[other](); len(got) > 0 {
		t.Errorf("a node that has nothing to do with it: %+v", got)
	}
	forged := status.Command{Partition: 0, Resume: true, By: fmt.Sprint("n", asked),
		Asker: status.Asker{Principal: "local", Role: "admin", Request: "0123456789abcdef"}}
	for _, want := range []string{fmt.Sprintf("node n%d passes on what node \"n%d\" is said", other, asked),
		"the role operator is needed"} {
		what, err := json.Marshal(forged)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.nodes[other].raft.Do(nodetest.Context(t), leader.cfg.Node, what)
		var r commandReply
		if err != nil || json.Unmarshal(answer, &r) != nil || !r.Refused || !strings.Contains(r.Error, want) {
			t.Errorf("%s, %v; want %s", answer, err, want)
		}
		got := lines[lead]()
		if l := got[len(got)-1]; l.Result != "denied" || l.Via != fmt.Sprint("node n", other) {
			t.Errorf("%+v", l)
		}
		forged.By, forged.Asker.Role = fmt.Sprint("n", other), "viewer"
	}
}
