package raftstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func FuzzHeader(f *testing.F) {
	f.Add(header{kindRaft, 5, "a-0123456789abcdef"}.append(nil))
	f.Add(header{kindControl, 0, "a"}.append(nil))
	f.Add([]byte("DKL1\x01\x00\x00\x00\x00\x00"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHeader(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, errHeader) {
				t.Fatalf("%v", err)
			}
			return
		}
		if again := h.append(nil); !bytes.HasPrefix(b, again) {
			t.Fatalf("%q decodes to %+v, which encodes to %q", b, h, again)
		}
	})
}

func FuzzFrame(f *testing.F) {
	var b bytes.Buffer
	req := request{Op: opFound, Cluster: "0123456789abcdef", Founders: []member{{"a", "a-1", "x:1"}}, Shards: 6}
	if err := writeFrame(&b, req); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var req request
		if err := readFrame(bytes.NewReader(b), &req); err != nil {
			if !errors.Is(err, errFrame) {
				t.Fatalf("%v", err)
			}
			return
		}
		var out bytes.Buffer
		if err := writeFrame(&out, req); err != nil && !errors.Is(err, errFrame) {
			t.Fatal(err)
		}
	})
}

func FuzzUnseal(f *testing.F) {
	fsys := vfs.NewMem()
	if err := writeSealed(fsys, "x", marker{Index: 7, Term: 2, Applied: 5}); err != nil {
		f.Fatal(err)
	}
	file, err := fsys.Open("x")
	if err != nil {
		f.Fatal(err)
	}
	b, err := io.ReadAll(file)
	if err = errors.Join(err, file.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}\n00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m marker
		if err := unseal(b, &m); err != nil {
			if !errors.Is(err, errSealBroken) {
				t.Fatalf("%v", err)
			}
			return
		}
		if _, err := json.Marshal(m); err != nil {
			t.Fatal(err)
		}
	})
}

// sampleStream is a snapshot of three files, one of them empty and one in a folder.
func sampleStream(tb testing.TB) ([]byte, *manifest) {
	tb.Helper()
	fsys := vfs.NewMem()
	if err := errors.Join(fsys.MkdirAll("s/sub/deep", 0o755), writeFile(fsys, "s/a", []byte("hello")),
		writeFile(fsys, "s/empty", nil), writeFile(fsys, "s/sub/deep/b", bytes.Repeat([]byte("x"), 100))); err != nil {
		tb.Fatal(err)
	}
	m := &manifest{applied: 42, term: 3}
	if err := m.scan(fsys, "s", ""); err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	if err := m.write(&out, fsys, "s"); err != nil {
		tb.Fatal(err)
	}
	if int64(out.Len()) != m.size() {
		tb.Fatalf("stream of %d bytes, %d were announced", out.Len(), m.size())
	}
	return out.Bytes(), m
}

func TestStream(t *testing.T) {
	b, m := sampleStream(t)
	fsys := vfs.NewCrashableMem()
	if err := makeDir(fsys, "in"); err != nil {
		t.Fatal(err)
	}
	got, err := readStream(iotest.OneByteReader(bytes.NewReader(b)), fsys, "in/files")
	if err != nil {
		t.Fatal(err)
	}
	if got.applied != m.applied || got.term != m.term || len(got.files) != 3 {
		t.Fatalf("%+v", got)
	}
	if err := syncDir(fsys, "in"); err != nil {
		t.Fatal(err)
	}
	after := fsys.CrashClone(vfs.CrashCloneCfg{}) // every file is durable
	for _, f := range m.files {
		if st, err := after.Stat("in/files/" + f.name); err != nil || st.Size() != f.size {
			t.Errorf("%s: %v", f.name, err)
		}
	}
	// Every damaged byte and every length but the right one is noticed.
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x20
		if _, err := readStream(bytes.NewReader(bad), vfs.NewMem(), "x"); !errors.Is(err, ErrStream) {
			t.Fatalf("byte %d damaged: %v", i, err)
		}
		if _, err := readStream(bytes.NewReader(b[:i]), vfs.NewMem(), "x"); !errors.Is(err, ErrStream) {
			t.Fatalf("shortened at %d: %v", i, err)
		}
	}
	if _, err := readStream(bytes.NewReader(append(bytes.Clone(b), 0)), vfs.NewMem(), "x"); !errors.Is(err, ErrStream) {
		t.Fatalf("one byte more: %v", err)
	}
}

func TestCleanName(t *testing.T) {
	for n, want := range map[string]bool{
		"a": true, "a/b": true, "000001.sst": true, "..a": true, "a..": true,
		"": false, ".": false, "..": false, "/a": false, "../a": false, "a/../b": false, "a/": false,
		"./a": false, "a\x00": false, `a\b`: false, "c:x": false,
	} {
		if cleanName(n) != want {
			t.Errorf("%q: %v", n, !want)
		}
	}
}

func FuzzStream(f *testing.F) {
	b, _ := sampleStream(f)
	f.Add(b)
	f.Add(b[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys := vfs.NewMem()
		m, err := readStream(bytes.NewReader(b), fsys, "in")
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := m.write(&out, fsys, "in"); err != nil || !bytes.Equal(out.Bytes(), b) {
			t.Fatalf("a stream was taken and comes out differently: %v", err)
		}
	})
}
