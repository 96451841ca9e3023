package node

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/cipherfs"
	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/raftstore"
)

// keys are key files in memory: the file "keyN" holds a key of bytes N.
func keys(name string) ([]byte, error) {
	var n byte
	if _, err := fmt.Sscanf(name, "key%d", &n); err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	return fmt.Appendf(nil, "deckle-key-1:%s\n", base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{n}, 32))), nil
}

func keyFiles(names ...string) *config.Encryption {
	e := &config.Encryption{}
	for _, n := range names {
		e.Keys = append(e.Keys, config.KeyFile{File: n})
	}
	return e
}

// folder returns every file of a folder, read with fsys.
func folder(t *testing.T, fsys vfs.FS, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	names, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		p := fsys.PathJoin(dir, n)
		if info, err := fsys.Stat(p); err != nil {
			t.Fatal(err)
		} else if info.IsDir() {
			maps.Copy(all, folder(t, fsys, p))
			continue
		}
		f, err := fsys.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		all[p] = string(b)
	}
	return all
}

// TestWrongKey: nodes that are started with a wrong key, with none, or with each other's, refuse, each of them, and
// keep every byte. A node that took this for damage would give up its folder, and all three the cluster. The right keys
// then go on with what was there.
func TestWrongKey(t *testing.T) {
	b := nodetest.NewBroker(t, 3)
	given := []string{"key1", "key2", "key3"} // by node; "" for none
	c := newCluster(t, b, 3, nil)
	c.tune = func(cfg *config.Config) {
		cfg.Cluster.Shards = 1
		if k := given[cfg.Node[1]-'0']; k != "" {
			cfg.Encryption = keyFiles(k)
		}
	}
	distinct, ends, duplicates, broken := produceSample(t, b, 3)
	for i := range 3 {
		c.start(i)
	}
	c.ends = ends
	nodetest.Until(t, "all applied", func() bool { return c.sum(applied) == int64(distinct) })
	c.checkExact(t, distinct, duplicates, broken)
	for i := range 3 {
		c.stop(i)
	}
	before := folder(t, c.fs, "data")
	for name, text := range before {
		if len(text) > 0 && path.Base(name) != cipherfs.ProofName && !strings.HasPrefix(text, "DKLCRYPT") {
			t.Errorf("%s is not sealed: %.20q", name, text)
		}
	}
	for _, wrong := range [][]string{{"key4", "key4", "key4"}, {"", "", ""}, {"key2", "key3", "key1"}} {
		given = wrong
		for i := range 3 {
			n, err := c.open(i)
			if err == nil {
				c.nodes[i] = n
				t.Fatalf("node %d has started with the key %q", i, wrong[i])
			}
			var damaged interface{ Damaged() bool }
			if !errors.Is(err, cipherfs.ErrKey) || errors.As(err, &damaged) || errors.Is(err, fs.ErrNotExist) ||
				errors.Is(err, raftstore.ErrForeignFolder) {
				t.Errorf("node %d, key %q: %v", i, wrong[i], err)
			}
		}
		if after := folder(t, c.fs, "data"); !maps.Equal(before, after) {
			t.Fatalf("the keys %q have changed the folders", wrong)
		}
	}
	given = []string{"key1", "key2", "key3"}
	for i := range 3 {
		c.start(i)
	}
	nodetest.Until(t, "all applied", func() bool { return c.sum(applied) == int64(distinct) })
	c.checkExact(t, distinct, duplicates, broken)
}

// TestKeysOverAPlainFolder: a node that is given a key refuses the folder that it has, which somebody else may have
// made, until the configuration accepts plain files; it then goes on over it, seals what is new, and cannot be started
// without the key from then on. The way back leaves new files plain, under the same key.
func TestKeysOverAPlainFolder(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	var e *config.Encryption
	c := newCluster(t, b, 1, func(cfg *config.Config) { cfg.Encryption = e })
	distinct, ends, duplicates, broken := produceSample(t, b, 1)
	c.ends = ends
	c.start(0)
	nodetest.Until(t, "all applied", func() bool { return c.sum(applied) == int64(distinct) })
	c.checkExact(t, distinct, duplicates, broken)
	c.stop(0)
	for _, f := range folder(t, c.fs, "data") {
		if strings.HasPrefix(f, "DKLCRYPT") {
			t.Fatal("a node without keys seals")
		}
	}
	// Whatever a node writes is known as such, or somebody could put it into a sealed folder; but for the logs of
	// Pebble, which are not used and have only the 11 bytes of their end.
	if k, err := LookAtKeys(c.config(0), Deps{FS: c.fs}); err != nil || k.Plain.Files < 5 || !onlyEnds(k.Other) {
		t.Errorf("known for those of a node are %+v, not known %+v; %v", k.Plain, k.Other, err)
	}
	e = keyFiles("key1")
	plain := folder(t, c.fs, "data")
	if n, err := c.open(0); !errors.Is(err, cipherfs.ErrPlainFile) || !maps.Equal(plain, folder(t, c.fs, "data")) {
		c.nodes[0] = n
		t.Fatalf("over a plain folder: %v", err)
	}
	e.PlainFiles = "accept"
	c.start(0)
	nodetest.Until(t, "all applied", func() bool { return c.sum(applied) == int64(distinct) })
	c.checkExact(t, distinct, duplicates, broken)
	c.stop(0)
	sealed := 0
	for _, f := range folder(t, c.fs, "data") {
		if strings.HasPrefix(f, "DKLCRYPT") {
			sealed++
		}
	}
	if id := folder(t, c.fs, "data")["data/n0/identity"]; sealed == 0 || !strings.HasPrefix(id, "DKLCRYPT") {
		t.Errorf("%d files are sealed, the identity is %.20q", sealed, id)
	}
	e = nil
	if n, err := c.open(0); !errors.Is(err, cipherfs.ErrKey) {
		c.nodes[0] = n
		t.Fatalf("without its key: %v", err)
	}
	both := keyFiles("key2", "key1") // of which old files need the second
	both.PlainFiles = "accept"
	// Over HTTP it shows what the command shows.
	shown := func() (k FolderKeys) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/api/v1/encryption", nil)
		r.Host = "127.0.0.1"
		c.nodes[0].Handler().ServeHTTP(w, r)
		if err := json.Unmarshal(w.Body.Bytes(), &k); err != nil || w.Code != http.StatusOK {
			t.Errorf("%d %s: %v", w.Code, w.Body, err)
		}
		return k
	}
	oldKeys := func() bool {
		return has(c.nodes[0].Status().Conditions, condition.EncryptionOldKey, "data_dir")
	}
	for _, e = range []*config.Encryption{both, {Keys: both.Keys, NewFiles: "plain"}} {
		c.start(0)
		nodetest.Until(t, "it tells that the old key is needed", oldKeys)
		k := shown()
		if len(k.Keys) != 2 || k.Keys[1].Use != useOld || k.Keys[0].Files+k.Keys[1].Files == 0 ||
			k.DataDir != "data/n0" {
			t.Errorf("it shows %+v", k)
		}
		nodetest.Until(t, "all applied", func() bool { return c.sum(applied) == int64(distinct) })
		c.checkExact(t, distinct, duplicates, broken)
		c.stop(0)
	}
	// All files get the first key; then what has a key is made plain, and the keys go.
	deps := Deps{FS: c.fs, ReadFile: keys}
	e = both
	if done, err := Reseal(t.Context(), c.config(0), deps, false, nil); err != nil || done.Files == 0 {
		t.Fatalf("%d files were given the first key: %v", done.Files, err)
	}
	e = keyFiles("key2")
	n := c.start(0)
	nodetest.Until(t, "all applied", func() bool { return c.sum(applied) == int64(distinct) })
	deadline := time.Now().Add(time.Second)
	for time.Now().Before(deadline) && !oldKeys() {
		time.Sleep(20 * time.Millisecond)
	}
	if oldKeys() {
		t.Errorf("an old key is needed after all was rewritten: %+v", n.Status().Conditions)
	}
	c.stop(0)
	e = &config.Encryption{Keys: both.Keys[:1], NewFiles: "plain"}
	if done, err := Reseal(t.Context(), c.config(0), deps, false, nil); err != nil || done.Files == 0 {
		t.Fatalf("%d files were made plain: %v", done.Files, err)
	}
	e = nil
	if k, err := LookAtKeys(c.config(0), deps); err != nil || len(k.Keys) != 0 || !onlyEnds(k.Other) {
		t.Errorf("left is %+v, %v", k, err)
	}
	c.start(0)
	nodetest.Until(t, "all applied", func() bool { return c.sum(applied) == int64(distinct) })
	c.checkExact(t, distinct, duplicates, broken)
}

// onlyEnds tells that files are nothing but ends of Pebble's logs.
func onlyEnds(c cipherfs.Count) bool { return c.Bytes == 11*int64(c.Files) }

// TestKeyFiles: what is wrong with a key file is told by its key in the configuration, and never shows what is in it.
func TestKeyFiles(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"deckle-key-1:c2VjcmV0IHNlY3JldA\n", "encryption.keys[0]: k: cipherfs: a key file is one line"},
		{"", "encryption.keys[0]: no such file"},
	} {
		cfg := &config.Config{DataDir: "data", Encryption: keyFiles("k")}
		_, _, err := proveFolder(cfg, &Deps{FS: vfs.NewMem(), ReadFile: func(string) ([]byte, error) {
			if c.text == "" {
				return nil, errors.New("no such file")
			}
			return []byte(c.text), nil
		}}, vfs.NewMem())
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "c2Vj") {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	// A folder with nothing but the proof is new: a start that was refused for another reason has left it.
	mem := vfs.NewMem()
	for _, name := range []string{"d/encryption", "d/identity"} {
		if err := mem.MkdirAll("d", 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := mem.Create(name, vfs.WriteCategoryUnspecified)
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if isNew(mem, "d") != (name == "d/encryption") {
			t.Errorf("with %s the folder is new: %v", name, isNew(mem, "d"))
		}
	}
	cfg := &config.Config{DataDir: "/d/data", Delta: &config.Delta{Path: "/d/data/lake/../tables"}}
	if got := lakeWithin(vfs.NewMem(), cfg); len(got) != 1 || got[0] != "/d/data/tables" {
		t.Errorf("the lake is at %v", got)
	}
	for _, lake := range []string{"/d", "/d/data2", "/d/data", "/e"} {
		cfg.Delta.Path = lake
		if got := lakeWithin(vfs.NewMem(), cfg); got != nil {
			t.Errorf("a lake at %s is within: %v", lake, got)
		}
	}
}

// TestInsecureTellsOfKeys: who has encryption at rest must not believe that it reaches beyond the disk.
func TestInsecureTellsOfKeys(t *testing.T) {
	for _, e := range []*config.Encryption{nil, keyFiles("key1")} {
		cfg := &config.Config{Encryption: e, Cluster: config.Cluster{Insecure: true, Nodes: make([]config.Node, 3)}}
		w := &fileWatch{cfg: cfg, list: condition.New("a", time.Now, slog.New(slog.DiscardHandler))}
		w.tellInsecure()
		list := w.list.Snapshot()
		if len(list) != 1 || strings.Contains(list[0].Text, "whatever encryption.keys seals") != (e != nil) {
			t.Errorf("%+v", list)
		}
	}
}
