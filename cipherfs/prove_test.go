package cipherfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// contents returns every file below dir.
func contents(t testing.TB, fsys vfs.FS, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return all
	}
	check(t, err)
	for _, n := range names {
		path := fsys.PathJoin(dir, n)
		info, err := fsys.Stat(path)
		check(t, err)
		if info.IsDir() {
			maps.Copy(all, contents(t, fsys, path))
		} else {
			all[path] = string(get(t, fsys, path))
		}
	}
	return all
}

// files are what a node's folder has, plain.
var files = map[string]string{
	"d/identity":         "{\"Format\":1}\n00000000\n",
	"d/disk_budget":      "{\"disk_bytes\":5}\n",
	"d/wal/1.wal":        "DECKLWAL and more",
	"d/wal/LOCK":         "",
	"d/shard-0/1.sst":    strings.Repeat("table ", 40) + "\xf0\x9f\xaa\xb3\xf0\x9f\xaa\xb3",
	"d/shard-0/OPTIONS":  "[Version]\n",
	"d/shard-0/MANIFEST": "0123456\x01\x1aleveldb.BytewiseComparator",
	"d/snapshots/m":      "{}",
}

func makeFiles(t testing.TB, fsys vfs.FS, names ...string) {
	t.Helper()
	for _, dir := range []string{"d/wal", "d/shard-0", "d/snapshots"} {
		check(t, fsys.MkdirAll(dir, 0o700))
	}
	for _, n := range names {
		put(t, fsys, n, []byte(files[n]))
	}
}

func allNames() []string { return slices.Sorted(maps.Keys(files)) }

func begin(o Options) (vfs.FS, error) {
	f, err := Prove(o, "d")
	if err != nil {
		return nil, err
	}
	fsys, _, err := f.Begin()
	return fsys, err
}

// TestProve goes through the table of the design: what the file encryption and the headers say, which keys are given,
// and what comes of it. A refusal changes no byte, is told by its sentinel, and is no damage.
func TestProve(t *testing.T) {
	k1, k2 := testKey(1), testKey(2)
	sealedBy := func(keys ...*Key) func(t *testing.T, mem vfs.FS) {
		return func(t *testing.T, mem vfs.FS) {
			l, err := begin(Options{FS: mem, Keys: keys})
			check(t, err)
			makeFiles(t, l, allNames()...)
		}
	}
	plain := func(t *testing.T, mem vfs.FS) { makeFiles(t, mem, allNames()...) }
	for _, c := range []struct {
		name string
		made []func(t *testing.T, mem vfs.FS)
		keys []*Key
		want error
		text string
		open bool // plain files are accepted
	}{
		{name: "nothing, no key"},
		{name: "nothing, a key", keys: []*Key{k1}},
		{name: "plain, no key", made: []func(*testing.T, vfs.FS){plain}},
		{name: "plain, a key", made: []func(*testing.T, vfs.FS){plain}, keys: []*Key{k1}, want: ErrPlainFile,
			text: "encryption.plain_files: accept"},
		{name: "plain, a key, accepted", made: []func(*testing.T, vfs.FS){plain}, keys: []*Key{k1}, open: true},
		{name: "sealed, its key", made: []func(*testing.T, vfs.FS){sealedBy(k1)}, keys: []*Key{k1}},
		{name: "sealed, its key second", made: []func(*testing.T, vfs.FS){sealedBy(k1)}, keys: []*Key{k2, k1}},
		{name: "sealed, no key", made: []func(*testing.T, vfs.FS){sealedBy(k1)}, want: ErrKey, text: k1.ID().String()},
		{name: "sealed, another key", made: []func(*testing.T, vfs.FS){sealedBy(k1)}, keys: []*Key{k2}, want: ErrKey,
			text: "given " + k2.ID().String()},
		{name: "half sealed, no key", made: []func(*testing.T, vfs.FS){plain, func(t *testing.T, mem vfs.FS) {
			_, err := begin(Options{FS: mem, Keys: []*Key{k1}, Plain: true})
			check(t, err)
		}}, want: ErrKey},
		{name: "half sealed, accepted no more", made: []func(*testing.T, vfs.FS){plain,
			func(t *testing.T, mem vfs.FS) {
				_, err := begin(Options{FS: mem, Keys: []*Key{k1}, Plain: true})
				check(t, err)
			}}, keys: []*Key{k1}, want: ErrPlainFile},
		// Whoever can write to the disk can have nothing of his own making read, whatever he does to the proof.
		{name: "the proof is gone, and a plain file there", made: []func(*testing.T, vfs.FS){sealedBy(k1),
			func(t *testing.T, mem vfs.FS) {
				check(t, mem.Remove("d/encryption"))
				put(t, mem, "d/wal/2.wal", []byte("DECKLWAL"))
			}}, keys: []*Key{k1}, want: ErrPlainFile, text: "2.wal"},
		{name: "the proof is older, and a plain file there", made: []func(*testing.T, vfs.FS){plain,
			func(t *testing.T, mem vfs.FS) {
				o := Options{FS: mem, Keys: []*Key{k1}, Plain: true}
				_, err := begin(o)
				check(t, err)
				older := get(t, mem, "d/encryption")
				_, err = Rewrite(context.Background(), o, "d")
				check(t, err)
				put(t, mem, "d/encryption", older)
				put(t, mem, "d/wal/2.wal", []byte("DECKLWAL"))
			}}, keys: []*Key{k1}, want: ErrPlainFile, text: "2.wal"},
		{name: "everything replaced", made: []func(*testing.T, vfs.FS){sealedBy(k1), func(t *testing.T, mem vfs.FS) {
			check(t, mem.RemoveAll("d"))
		}, plain}, keys: []*Key{k1}, want: ErrPlainFile},
		// A key that no file has any more may be lost.
		{name: "a key that is not needed", made: []func(*testing.T, vfs.FS){sealedBy(k2, k1),
			func(t *testing.T, mem vfs.FS) {
				e1, err := k1.prove()
				check(t, err)
				e2, err := k2.prove()
				check(t, err)
				b, err := encodeProof(&proof{Format: 1, Keys: []proofKey{e1, e2}})
				check(t, err)
				put(t, mem, "d/encryption", b)
			}}, keys: []*Key{k2}},
		{name: "what is no file", made: []func(*testing.T, vfs.FS){sealedBy(k1), func(t *testing.T, mem vfs.FS) {
			check(t, mem.MkdirAll("d/lost+found", 0o700))
			put(t, mem, "d/pipe", []byte("{"))
		}}, keys: []*Key{k1}},
		{name: "a plain file among sealed ones", made: []func(*testing.T, vfs.FS){sealedBy(k1),
			func(t *testing.T, mem vfs.FS) { put(t, mem, "d/wal/2.wal", []byte("DECKLWAL")) }},
			keys: []*Key{k1}, want: ErrPlainFile, text: "2.wal"},
		{name: "what a crash leaves of new files", made: []func(*testing.T, vfs.FS){sealedBy(k1),
			func(t *testing.T, mem vfs.FS) {
				put(t, mem, "d/wal/2.wal", make([]byte, 500))
				put(t, mem, "d/wal/3.wal", []byte("DKLCRYPT"))
				put(t, mem, "d/wal/4.wal", nil)
			}}, keys: []*Key{k1}},
		{name: "the proof is gone", made: []func(*testing.T, vfs.FS){sealedBy(k1), func(t *testing.T, mem vfs.FS) {
			check(t, mem.Remove("d/encryption"))
		}}, keys: []*Key{k1}},
		{name: "the proof is gone, another key", made: []func(*testing.T, vfs.FS){sealedBy(k1),
			func(t *testing.T, mem vfs.FS) { check(t, mem.Remove("d/encryption")) }}, keys: []*Key{k2}, want: ErrKey},
		{name: "the proof is broken", made: []func(*testing.T, vfs.FS){sealedBy(k1), func(t *testing.T, mem vfs.FS) {
			put(t, mem, "d/encryption", []byte("{\"Format\":1}\n01234567\n"))
		}}, keys: []*Key{k1}},
		{name: "the proof is another's", made: []func(*testing.T, vfs.FS){sealedBy(k1), func(t *testing.T, mem vfs.FS) {
			e, err := k2.prove()
			check(t, err)
			e.ID = k1.ID().String()
			b, err := encodeProof(&proof{Format: 1, Keys: []proofKey{e}})
			check(t, err)
			put(t, mem, "d/encryption", b)
		}}, keys: []*Key{k1}, want: ErrKey, text: "d/encryption was proven by another key"},
		{name: "the proof is newer", made: []func(*testing.T, vfs.FS){sealedBy(k1), func(t *testing.T, mem vfs.FS) {
			b, err := encodeProof(&proof{Format: 2})
			check(t, err)
			put(t, mem, "d/encryption", b)
		}}, keys: []*Key{k1}, want: ErrVersion},
		{name: "a file of a third key", made: []func(*testing.T, vfs.FS){sealedBy(k1), func(t *testing.T, mem vfs.FS) {
			l := layer(t, mem, func(o *Options) { o.Keys = []*Key{testKey(3)} })
			put(t, l, "d/wal/9.wal", []byte("x"))
		}}, keys: []*Key{k1}, want: ErrKey, text: "9.wal"},
		{name: "what is not sealed", made: []func(*testing.T, vfs.FS){sealedBy(k1), func(t *testing.T, mem vfs.FS) {
			check(t, mem.MkdirAll("d/audit", 0o700))
			put(t, mem, "d/audit/audit.jsonl", []byte("{}"))
			put(t, mem, "d/local-token", []byte("{}"))
		}}, keys: []*Key{k1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := vfs.NewMem()
			for _, f := range c.made {
				f(t, mem)
			}
			before := contents(t, mem, "d")
			o := Options{FS: unreadable{mem}, Keys: c.keys, Plain: c.open, Lock: "d/wal/LOCK"}
			l, err := begin(o)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) ||
				err != nil && !strings.Contains(err.Error(), c.text) {
				t.Fatalf("error %v, want %v with %q", err, c.want, c.text)
			}
			var damaged interface{ Damaged() bool }
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.As(err, &damaged) {
				t.Errorf("%v could be taken for damage", err)
			}
			if after := contents(t, mem, "d"); err != nil && !maps.Equal(before, after) {
				t.Error("a refusal has changed the folder")
			}
			if err != nil {
				return
			}
			if len(c.keys) == 0 && l != o.FS {
				t.Errorf("without keys there is a %T between, which costs", l)
			}
			for name, text := range files {
				if text == "" { // the lock is made anew
					continue
				}
				if _, there := before[name]; there && string(get(t, l, name)) != text {
					t.Errorf("%s reads %q", name, get(t, l, name))
				}
			}
			if _, err := begin(o); err != nil {
				t.Errorf("the next start: %v", err)
			}
			if id, ok := contents(t, mem, "d")["d/identity"]; ok && len(c.keys) > 0 && !isSealed([]byte(id)) {
				t.Error("the identity is plain: a binary that knows no encryption would take the log for damaged")
			}
		})
	}
}

// unreadable has a folder that is another user's, as the root of a disk may have, and a pipe.
type unreadable struct{ vfs.FS }

func (u unreadable) List(dir string) ([]string, error) {
	if strings.HasSuffix(dir, "lost+found") {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: fs.ErrPermission}
	}
	return u.FS.List(dir)
}

func (u unreadable) Stat(name string) (vfs.FileInfo, error) {
	info, err := u.FS.Stat(name)
	if err == nil && strings.HasSuffix(name, "pipe") {
		return pipe{info}, nil
	}
	return info, err
}

type pipe struct{ vfs.FileInfo }

func (pipe) Mode() fs.FileMode { return fs.ModeNamedPipe }

// TestLock: who starts beside a process that uses the folder changes nothing in it.
func TestLock(t *testing.T) {
	mem := vfs.NewMem()
	makeFiles(t, mem, allNames()...)
	o := Options{FS: mem, Keys: []*Key{testKey(1)}, Plain: true, Lock: "d/wal/LOCK"}
	lock, err := mem.Lock(o.Lock)
	check(t, err)
	before := contents(t, mem, "d")
	if _, err := begin(o); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second start: %v", err)
	}
	_, err = Rewrite(context.Background(), o, "d")
	if err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("rewritten beside it: %v", err)
	}
	if !maps.Equal(before, contents(t, mem, "d")) {
		t.Error("the folder was changed")
	}
	check(t, lock.Close())
	if n, err := Rewrite(context.Background(), o, "d"); err != nil || n.Files == 0 {
		t.Errorf("afterwards: %d files, %v", n.Files, err)
	}
	if lock, err = mem.Lock(o.Lock); err != nil {
		t.Fatalf("the lock is kept: %v", err)
	}
	check(t, lock.Close())
}

// crashes calls f with a file system of which each change is counted, and calls after with a copy of the disk as it was
// before each of them, with none, some and all of what was not synced.
func crashes(t *testing.T, made func(vfs.FS), f func(vfs.FS) error, after func(what string, disk *vfs.MemFS)) {
	for n := 1; ; n++ {
		mem := vfs.NewCrashableMem()
		made(mem)
		mem = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: newRand(1)})
		left := n
		var what string
		var disk []*vfs.MemFS
		watched := errorfs.Wrap(mem, errorfs.InjectorFunc(func(o errorfs.Op) error {
			if o.Kind.ReadOrWrite() == errorfs.OpIsRead {
				return nil
			}
			if left--; left == 0 {
				what = fmt.Sprintf("op %d on %s", o.Kind, o.Path)
				for i, percent := range []int{0, 50, 100} {
					disk = append(disk, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent,
						RNG: newRand(uint64(n*3 + i))}))
				}
			}
			return nil
		}))
		check(t, f(watched))
		if disk == nil {
			if n < 10 {
				t.Errorf("only %d changes", n)
			}
			return
		}
		for _, d := range disk {
			after(what, d)
		}
	}
}

// TestUpgrade goes from a plain folder to a sealed one, to another key, and back to plain files, with a crash before
// each change: every file reads the same at all times, with the keys of that step, and the step can be ended.
func TestUpgrade(t *testing.T) {
	k1, k2 := testKey(1), testKey(2)
	sealed := func(b string) bool { return len(b) > 0 && isSealed([]byte(b)) }
	for _, step := range []struct {
		name     string
		from, to Options
		done     func(b string) bool
	}{
		{"sealed", Options{}, Options{Keys: []*Key{k1}, Plain: true}, sealed},
		{"another key", Options{Keys: []*Key{k1}}, Options{Keys: []*Key{k2, k1}}, sealed},
		{"plain again", Options{Keys: []*Key{k2}}, Options{Keys: []*Key{k2}, NewPlain: true},
			func(b string) bool { return !sealed(b) }},
	} {
		t.Run(step.name, func(t *testing.T) {
			with := func(o Options, fsys vfs.FS) Options { o.FS = fsys; return o }
			same := func(what string, fsys vfs.FS) {
				t.Helper()
				for name, text := range files {
					if got := string(get(t, fsys, name)); got != text {
						t.Fatalf("crash before %s: %s reads %q", what, name, got)
					}
				}
			}
			crashes(t, func(mem vfs.FS) {
				l, err := begin(with(step.from, mem))
				check(t, err)
				makeFiles(t, l, allNames()...)
			}, func(fsys vfs.FS) error {
				_, err := Rewrite(context.Background(), with(step.to, fsys), "d")
				return err
			}, func(what string, disk *vfs.MemFS) {
				// As a binary that knows no encryption would find it.
				all := contents(t, disk, "d")
				if id := all["d/identity"]; !sealed(id) {
					for name, b := range all {
						if sealed(b) && !strings.HasSuffix(name, rewriteSuffix) {
							t.Fatalf("crash before %s: the identity is plain, and %s is sealed", what, name)
						}
					}
				}
				l, err := begin(with(step.to, disk))
				if err != nil {
					t.Fatalf("crash before %s: %v", what, err)
				}
				same(what, l)
				if _, err = Rewrite(context.Background(), with(step.to, disk), "d"); err != nil {
					t.Fatalf("crash before %s: %v", what, err)
				}
				l, err = begin(with(step.to, disk))
				check(t, err)
				same(what, l)
				for name, b := range contents(t, disk, "d") {
					if len(b) > 0 && name != "d/encryption" && !step.done(b) || strings.HasSuffix(name, rewriteSuffix) {
						t.Fatalf("crash before %s: %s is %.8q", what, name, b)
					}
				}
				// The first key alone is enough now, and none where all is plain.
				last := Options{FS: disk, Keys: step.to.Keys[:1]} // and no plain file is left
				if step.to.NewPlain {
					last.Keys = nil
				}
				if _, err := begin(last); err != nil {
					t.Fatalf("crash before %s: afterwards: %v", what, err)
				}
			})
		})
	}
}

// TestOutside: what is below a folder that is not the node's, though it lies in the data folder, is left alone.
func TestOutside(t *testing.T) {
	mem := vfs.NewMem()
	makeFiles(t, mem, "d/identity")
	check(t, mem.MkdirAll("d/lake", 0o700))
	put(t, mem, "d/lake/0.json", []byte("{}"))
	o := Options{FS: mem, Keys: []*Key{testKey(1)}}
	if _, err := Rewrite(context.Background(), o, "d", "d/lake"); !errors.Is(err, ErrPlainFile) {
		t.Errorf("what somebody may have put there is sealed: %v", err)
	}
	o.Plain = true
	n, err := Rewrite(context.Background(), o, "d", "d/lake")
	check(t, err)
	if got := get(t, mem, "d/lake/0.json"); string(got) != "{}" {
		t.Errorf("%+v was rewritten, and the lake's reads %q", n, got)
	}
	if _, err := Prove(Options{FS: mem, Keys: []*Key{testKey(1)}}, "d", "d/lake"); err != nil {
		t.Error(err)
	}
}
