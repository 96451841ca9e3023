package raftstore

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"testing"
	"testing/iotest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/schema/level"
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
func sampleStream(tb testing.TB, at level.Level) ([]byte, *manifest) {
	tb.Helper()
	fsys := vfs.NewMem()
	if err := errors.Join(fsys.MkdirAll("s/sub/deep", 0o755), writeFile(fsys, "s/a", []byte("hello")),
		writeFile(fsys, "s/empty", nil), writeFile(fsys, "s/sub/deep/b", bytes.Repeat([]byte("x"), 100))); err != nil {
		tb.Fatal(err)
	}
	m := &manifest{applied: 42, term: 3, level: at}
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
	for at := level.First; at <= level.Current; at++ {
		t.Run(fmt.Sprint("level ", at), func(t *testing.T) { testStream(t, at) })
	}
}

func testStream(t *testing.T, at level.Level) {
	b, m := sampleStream(t, at)
	fsys := vfs.NewCrashableMem()
	if err := makeDir(fsys, "in"); err != nil {
		t.Fatal(err)
	}
	got, err := readStream(iotest.OneByteReader(bytes.NewReader(b)), at, fsys, "in/files")
	if err != nil {
		t.Fatal(err)
	}
	if got.applied != m.applied || got.term != m.term || got.level != at || len(got.files) != 3 {
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
		// A newer version may have another head, so that its checksum cannot be found.
		want := ErrStream
		if i == 4 {
			want = ErrTooNew
		}
		if _, err := readStream(bytes.NewReader(bad), at, vfs.NewMem(), "x"); !errors.Is(err, want) {
			t.Fatalf("byte %d damaged: %v", i, err)
		}
		if _, err := readStream(bytes.NewReader(b[:i]), at, vfs.NewMem(), "x"); !errors.Is(err, ErrStream) {
			t.Fatalf("shortened at %d: %v", i, err)
		}
	}
	more := append(bytes.Clone(b), 0)
	if _, err := readStream(bytes.NewReader(more), at, vfs.NewMem(), "x"); !errors.Is(err, ErrStream) {
		t.Fatalf("one byte more: %v", err)
	}
}

// A group of level 1 sends what v0.1.0 reads, to the byte. Above that the head has the level, and whoever reads lower
// levels only ends there, before a folder or a file is made: nothing is damaged, on neither side.
func TestStreamFollowsTheLevel(t *testing.T) {
	for at, want := range map[level.Level]string{
		level.First: "444b534e" + "01" + "000000000000002a" + "0000000000000003" + "00000003" + "04e7cc01",
		level.Real:  "444b534e" + "02" + "000000000000002a" + "0000000000000003" + "00000003" + "00000002" + "2a2121cf",
	} {
		b, m := sampleStream(t, at)
		if got := hex.EncodeToString(m.head()); got != want || !bytes.HasPrefix(b, m.head()) {
			t.Errorf("level %d: head %s, want %s", at, got, want)
		}
	}
	for _, at := range []uint32{0, uint32(level.First)} { // these have another version
		head := (&manifest{level: level.Real}).head()
		binary.BigEndian.PutUint32(head[streamHead-4:], at)
		body := head[:len(head)-4]
		head = binary.BigEndian.AppendUint32(body, crc32.Checksum(body, castagnoli))
		if _, _, err := readHead(bytes.NewReader(head), level.Current); !errors.Is(err, ErrStream) {
			t.Errorf("version 2 at level %d gave %v", at, err)
		}
	}
	b, _ := sampleStream(t, level.Real)
	r, fsys := bytes.NewReader(b), vfs.NewMem()
	_, err := readStream(r, level.First, fsys, "in")
	if !isTooNew(err) || !errors.Is(err, ErrTooNew) || errors.Is(err, ErrStream) || isDamage(err) {
		t.Fatalf("a snapshot above the level gave %v", err)
	}
	if ok, _ := exists(fsys, "in"); ok || r.Len() != len(b)-streamHead-streamLevel {
		t.Fatalf("a folder was made: %v, %d of %d bytes are left", ok, r.Len(), len(b))
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

// FuzzStreamHead reads anything as the head of a stream. What is read comes out the same again; what is not is damaged
// or too new, and never both.
func FuzzStreamHead(f *testing.F) {
	for at := level.First; at <= level.Current; at++ {
		b, m := sampleStream(f, at)
		f.Add(b, uint32(at))
		f.Add(m.head(), uint32(level.First))
	}
	f.Add([]byte("DKSN\x03 a head of a later version, of another length"), uint32(2))
	f.Fuzz(func(t *testing.T, b []byte, own uint32) {
		own = 1 + own%uint32(level.Current)
		m, files, err := readHead(bytes.NewReader(b), level.Level(own))
		if err != nil {
			if errors.Is(err, ErrStream) == isTooNew(err) || isDamage(err) {
				t.Fatalf("%v", err)
			}
			return
		}
		if m.level > level.Level(own) {
			t.Fatalf("level %d is read at level %d", m.level, own)
		}
		m.files = make([]streamFile, files)
		if !bytes.HasPrefix(b, m.head()) {
			t.Fatalf("%x is read as %+v, which is written as %x", b, m, m.head())
		}
	})
}

func FuzzStream(f *testing.F) {
	for at := level.First; at <= level.Current; at++ {
		b, _ := sampleStream(f, at)
		f.Add(b)
		f.Add(b[:40])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys := vfs.NewMem()
		m, err := readStream(bytes.NewReader(b), level.Current, fsys, "in")
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := m.write(&out, fsys, "in"); err != nil || !bytes.Equal(out.Bytes(), b) {
			t.Fatalf("a stream was taken and comes out differently: %v", err)
		}
	})
}
