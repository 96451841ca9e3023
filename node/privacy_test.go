package node

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/trust"
)

// hmacFiles writes files with HMAC keys and returns their paths.
func hmacFiles(t *testing.T, keys ...string) (files []config.KeyFile) {
	t.Helper()
	dir := t.TempDir()
	for i, k := range keys {
		path := filepath.Join(dir, "key"+string(rune('a'+i)))
		if err := os.WriteFile(path, []byte(k+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, config.KeyFile{File: path})
	}
	return files
}

// hashed is what docs/schema.md says that hash makes of a session's id.
func hashed(key, session string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte("session_id\x00" + session))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// A node never reads by weaker rules than its file has, and never without the key of its shard's rules: it waits, which
// loses nothing, and goes on once it has what it lacks. Each set of rules holds from an epoch on, and each has the key
// that was first when it began.
func TestPrivacyRulesAreKept(t *testing.T) {
	t.Parallel()
	a, b := strings.Repeat("a", 32), strings.Repeat("b", 32)
	files := hmacFiles(t, a, b)
	c := newCluster(t, nodetest.NewBroker(t, 1), 1, nil)
	hash := []config.PrivacyRule{{Field: "session_id", Action: "hash"}}
	for i, x := range []struct {
		revision int
		rules    []config.PrivacyRule
		keys     []config.KeyFile
		waits    condition.ID // "" if it reads
		session  string       // the row of the session "s<i>", once it reads
	}{
		{0, nil, nil, "", "s0"},
		{1, hash, files[:1], "", hashed(a, "s1")},
		{1, nil, files[:1], condition.PrivacyWaits, "?"},       // the rule has been taken out, without a revision
		{1, hash, files[1:], condition.PrivacyKeyMissing, "?"}, // the key was taken away too early
		{1, hash, slices.Clip(files), "", hashed(a, "s4")},     // which also gets what has waited
		{2, hash, []config.KeyFile{files[1], files[0]}, "", hashed(b, "s5")},
		{3, nil, files[1:], "", "s6"},
	} {
		c.tune = func(cfg *config.Config) {
			cfg.Rules.Revision, cfg.Rules.Privacy, cfg.Privacy.Keys = x.revision, x.rules, x.keys
		}
		n := c.start(0)
		name := "s" + string(rune('0'+i))
		c.b.Produce(nodetest.Record(0, name, i))
		if x.waits != "" {
			nodetest.Until(t, "it waits", func() bool { return has(n.Status().Conditions, x.waits, "shard 0") })
			time.Sleep(300 * time.Millisecond)
			if got := c.sum(applied); got != int64(i-map[bool]int{true: 1}[x.waits == condition.PrivacyKeyMissing]) {
				t.Errorf("step %d: %d records are applied", i, got)
			}
			if st := n.Status(); st.Ready {
				t.Errorf("step %d: ready: %v", i, st.Conditions)
			}
		} else {
			nodetest.Until(t, "it reads", func() bool { return c.sum(applied) == int64(i+1) })
			nodetest.Until(t, "the row is there", func() bool {
				c.table.mu.Lock()
				defer c.table.mu.Unlock()
				for _, r := range c.table.sessions {
					if r.SessionID == x.session {
						return true
					}
				}
				return false
			})
			nodetest.Until(t, "every sink has it", func() bool {
				_, _, s := c.leader(0)
				for _, id := range s.State.Config.Sinks {
					if s.State.Sinks[id].Acked < s.State.LastClosed {
						return false
					}
				}
				return len(s.State.Config.Sinks) > 0
			})
		}
		c.stop(0)
	}
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	var ids []string
	for _, r := range c.table.sessions {
		ids = append(ids, r.SessionID)
	}
	want := []string{"s0", hashed(a, "s1"), hashed(a, "s2"), hashed(a, "s3"), hashed(a, "s4"), hashed(b, "s5"), "s6"}
	slices.Sort(ids)
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Errorf("sessions %q, want %q", ids, want)
	}
}

// A leader without the key offers its shard to the other nodes, so that one of them that has it goes on.
func TestShardWithoutItsKeyIsHandedOn(t *testing.T) {
	t.Parallel()
	key := strings.Repeat("k", 32)
	files := hmacFiles(t, key, strings.Repeat("x", 32))
	c := newCluster(t, nodetest.NewBroker(t, 1), 3, func(cfg *config.Config) {
		cfg.Cluster.Shards = 1
		cfg.Rules.Revision, cfg.Rules.Privacy = 1, []config.PrivacyRule{{Field: "session_id", Action: "hash"}}
		if cfg.Privacy.Keys = files[:1]; cfg.Node == "n0" {
			cfg.Privacy.Keys = files // all begin with the same key
		}
	})
	for i := range c.nodes {
		c.start(i)
	}
	c.ready()
	c.b.Produce(nodetest.Record(0, "s", 0))
	nodetest.Until(t, "applied", func() bool { return c.sum(applied) == 1 })
	c.stop(0)
	tune := c.tune
	c.tune = func(cfg *config.Config) {
		if tune(cfg); cfg.Node == "n0" {
			cfg.Privacy.Keys = files[1:]
		}
	}
	n := c.start(0)
	nodetest.Until(t, "n0 has led", func() bool {
		if i, l, _ := c.leader(0); l != nil && i != 0 {
			_ = l.raft.Group(0).TransferLeadership(nodetest.Context(t), "n0")
		}
		return has(n.Status().Conditions, condition.PrivacyKeyMissing, "shard 0")
	})
	c.b.Produce(nodetest.Record(0, "s", 1))
	nodetest.Until(t, "another one goes on", func() bool { return c.sum(applied) == 2 })
}

// A key that is short, stands twice or has changed is refused: with a weak key hashes tell the values, and with another
// one every reader becomes two.
func TestKeysAreRefused(t *testing.T) {
	good := strings.Repeat("g", 32)
	open := func(keys ...string) (*trust.Files, []config.KeyFile, error) {
		files := trust.NewFiles(os.ReadFile, time.Now, slog.New(slog.DiscardHandler))
		paths := hmacFiles(t, keys...)
		_, err := openKeys(files, &config.Config{Privacy: config.Privacy{Keys: paths}})
		return files, paths, err
	}
	for name, x := range map[string]struct {
		keys []string
		want string
	}{
		"short":   {[]string{good, good[:31]}, "privacy.keys[1].file: "},
		"empty":   {[]string{""}, "32 to 4096 bytes"},
		"long":    {[]string{strings.Repeat("l", 4097)}, "32 to 4096 bytes"},
		"twice":   {[]string{good, good}, "has the same key"},
		"without": {[]string{good}, ""},
	} {
		_, _, err := open(x.keys...)
		if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), good[:8]) {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
	files, paths, err := open(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(paths[0].File, []byte(strings.Repeat("o", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	files.Look()
	if s := files.State(); len(s) != 1 || s[0].Err == nil || !strings.Contains(s[0].Err.Error(), "a file of its own") {
		t.Errorf("another key in the same file: %+v", s)
	}
}
