// Package storetest checks that an object store keeps what package store promises. The model, a local folder and real
// S3 servers go through the same checks.
package storetest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"deckle/sinks/delta/store"
)

// many is how many objects lie in one folder: more than S3 lists in one answer, or removes by one request.
const many = 1010

// Run checks everything, with objects under the prefix, which ends with a slash and under which nothing lies. It puts
// a few objects of 20 MiB, above the size at which S3 clients begin to put an object in parts.
func Run(t *testing.T, s store.Store, prefix string) {
	for name, check := range map[string]func(*testing.T, store.Store, string){
		"objects": checkObjects, "ranges": checkRanges, "streams": checkStreams, "lists": checkLists,
		"deletes": checkDeletes, "races": checkRaces,
	} {
		t.Run(name, func(t *testing.T) { check(t, s, prefix+name) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// large are 20 MiB.
func large() []byte { return bytes.Repeat([]byte("0123456789abcdef"), 20<<16) }

// checkObjects puts and gets whole objects.
func checkObjects(t *testing.T, s store.Store, dir string) {
	ctx := t.Context()
	must(t, store.Probe(ctx, s, dir+"/", rand.Reader))
	if _, err := s.Get(ctx, dir+"/none"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get of a missing key: %v", err)
	}
	must(t, s.Delete(ctx, dir+"/none"))
	key := dir + "/_log/a.json"
	must(t, s.PutIfAbsent(ctx, key, []byte("one")))
	if err := s.PutIfAbsent(ctx, key, []byte("two")); !errors.Is(err, store.ErrExists) {
		t.Fatalf("second PutIfAbsent: %v", err)
	}
	if got, err := s.Get(ctx, key); err != nil || string(got) != "one" {
		t.Fatalf("Get: %q, %v", got, err)
	}
	must(t, s.Put(ctx, key, []byte("three")))
	if got, err := s.Get(ctx, key); err != nil || string(got) != "three" {
		t.Fatalf("Get after Put: %q, %v", got, err)
	}
	must(t, s.Delete(ctx, key))
	if _, err := s.Get(ctx, key); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get of a deleted key: %v", err)
	}
	must(t, s.PutIfAbsent(ctx, key, []byte("four")))
	must(t, s.Put(ctx, dir+"/empty", nil))
	if got, err := s.Get(ctx, dir+"/empty"); err != nil || len(got) != 0 {
		t.Fatalf("empty object: %q, %v", got, err)
	}
	if err := s.PutIfAbsent(ctx, dir+"/empty", []byte("x")); !errors.Is(err, store.ErrExists) {
		t.Fatalf("PutIfAbsent over an empty object: %v", err)
	}
	big := large()
	must(t, s.PutIfAbsent(ctx, dir+"/big", big))
	if err := s.PutIfAbsent(ctx, dir+"/big", big[1:]); !errors.Is(err, store.ErrExists) {
		t.Fatalf("second PutIfAbsent of a large object: %v", err)
	}
	if got, err := s.Get(ctx, dir+"/big"); err != nil || !bytes.Equal(got, big) {
		t.Fatalf("large object: %d bytes, %v", len(got), err)
	}
	for _, bad := range []string{"", "/a", "a/", "a//b", "../a", "a/./b", "a b", "a%20b", "ä"} {
		if err := s.Put(ctx, bad, nil); !errors.Is(err, store.ErrKey) {
			t.Errorf("Put(%q): %v", bad, err)
		}
		if err := s.PutIfAbsent(ctx, bad, nil); !errors.Is(err, store.ErrKey) {
			t.Errorf("PutIfAbsent(%q): %v", bad, err)
		}
	}
	for _, bad := range []string{"", "/a", "a/", "a//b", "../a", "a/./b"} {
		if _, err := s.Get(ctx, bad); !errors.Is(err, store.ErrKey) {
			t.Errorf("Get(%q): %v", bad, err)
		}
		if err := s.Delete(ctx, bad); !errors.Is(err, store.ErrKey) {
			t.Errorf("Delete(%q): %v", bad, err)
		}
	}
}

// checkStreams puts an object of 20 MiB in pieces: once, whole or not at all.
func checkStreams(t *testing.T, s store.Store, dir string) {
	ctx, data := t.Context(), large()
	pieces := func(w io.Writer) error {
		for b := range slices.Chunk(data, 100_001) {
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	}
	broken := errors.New("broken")
	for name, write := range map[string]func(io.Writer) error{
		"half": func(w io.Writer) error { _, _ = w.Write(data[:len(data)/2]); return broken },
		"all":  func(w io.Writer) error { _, _ = w.Write(data); return broken },
		"more": func(w io.Writer) error { _ = pieces(w); _, _ = w.Write([]byte("x")); return broken },
		"none": func(io.Writer) error { return broken },
	} {
		if err := s.PutStreamIfAbsent(ctx, dir+"/"+name, int64(len(data)), write); !errors.Is(err, broken) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for _, wrong := range []int64{-7, 7} {
		err := s.PutStreamIfAbsent(ctx, dir+"/wrong", int64(len(data))+wrong, pieces)
		if !errors.Is(err, store.ErrStreamed) {
			t.Fatalf("%d bytes fewer than there are: %v", wrong, err)
		}
	}
	for _, name := range []string{"half", "all", "more", "none", "wrong"} {
		if _, err := s.Get(ctx, dir+"/"+name); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	must(t, s.PutStreamIfAbsent(ctx, dir+"/streamed", int64(len(data)), pieces))
	if got, err := s.Get(ctx, dir+"/streamed"); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	err := s.PutStreamIfAbsent(ctx, dir+"/streamed", int64(len(data)), pieces)
	if !errors.Is(err, store.ErrExists) {
		t.Fatalf("a second time: %v", err)
	}
	must(t, s.List(ctx, dir, "", func(i store.Info) error {
		if i.Key != dir+"/streamed" {
			t.Errorf("%s of %d bytes is left", i.Key, i.Size)
		}
		return nil
	}))
}

func checkRanges(t *testing.T, s store.Store, dir string) {
	data := large()
	must(t, s.Put(t.Context(), dir+"/big", data))
	CheckRanges(t, s, dir+"/big", data)
}

// CheckRanges reads ranges of an object that has more than a MiB of data, and of others beside it.
func CheckRanges(t *testing.T, s store.Store, key string, data []byte) {
	t.Helper()
	ctx, image := t.Context(), ""
	for _, tc := range []struct {
		off  int64
		n    int
		want []byte
	}{
		{0, 5, data[:5]}, {7, 1 << 20, data[7 : 7+1<<20]}, {-1, 3, data[len(data)-3:]},
		{int64(len(data)) - 2, 9, data[len(data)-2:]}, {-1, len(data) + 5, data}, {0, len(data) + 5, data},
	} {
		p := make([]byte, tc.n)
		r, err := s.GetRange(ctx, key, tc.off, p)
		if err != nil || !bytes.Equal(p[:r.N], tc.want) || r.Size != int64(len(data)) || r.Image == "" ||
			image != "" && r.Image != image {
			t.Fatalf("%d bytes from %d: %d, of %d (%s), %v", tc.n, tc.off, r.N, r.Size, r.Image, err)
		}
		image = r.Image
	}
	p := make([]byte, 4)
	if _, err := s.GetRange(ctx, key, int64(len(data)), p); !errors.Is(err, store.ErrRange) {
		t.Fatalf("a range behind the end: %v", err)
	}
	if _, err := s.GetRange(ctx, key+"-none", 0, p); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a range of a missing key: %v", err)
	}
	for _, small := range []string{"", "x", "xy"} {
		must(t, s.Put(ctx, key+"-small", []byte(small)))
		r, err := s.GetRange(ctx, key+"-small", -1, p)
		if small == "" && !errors.Is(err, store.ErrRange) || small != "" && (err != nil || string(p[:r.N]) != small) {
			t.Fatalf("the last bytes of %q: %q, %v", small, p[:r.N], err)
		}
		if small != "" && r.Image == image {
			t.Fatal("another object has the same image")
		}
		image = r.Image
	}
}

// checkLists lists folders, parts of them, and the order of keys: a dash comes before the slash, letters after it.
func checkLists(t *testing.T, s store.Store, dir string) {
	ctx := t.Context()
	for i := range 8 {
		must(t, s.Put(ctx, fmt.Sprintf("%s/l/_log/%03d", dir, i), []byte{byte(i)}))
		must(t, s.Put(ctx, fmt.Sprintf("%s/l/d=%d/x", dir, i), nil))
	}
	list := func(prefix, after string) string {
		t.Helper()
		var keys []string
		if after != "" {
			after = dir + "/" + after
		}
		must(t, s.List(ctx, dir+"/"+prefix, after, func(i store.Info) error {
			keys = append(keys, strings.TrimPrefix(i.Key, dir+"/"))
			if i.Modified.IsZero() || time.Since(i.Modified).Abs() > time.Hour {
				t.Errorf("%s is of %v", i.Key, i.Modified)
			}
			return nil
		}))
		if !slices.IsSorted(keys) {
			t.Fatalf("not in order: %q", keys)
		}
		return strings.Join(keys, " ")
	}
	if got := list("l/_log/", "l/_log/004"); got != "l/_log/005 l/_log/006 l/_log/007" {
		t.Fatalf("list after: %s", got)
	}
	if got := list("l/_log/", "l/_log/0045"); got != "l/_log/005 l/_log/006 l/_log/007" {
		t.Fatalf("list after a key that is not there: %s", got)
	}
	if got := list("l/_log/00", "l/_log/006"); got != "l/_log/007" {
		t.Fatalf("list of a name prefix: %s", got)
	}
	if got := list("l/", "l/d=7"); got != "l/d=7/x" {
		t.Fatalf("list into a folder: %s", got)
	}
	if got := strings.Fields(list("l/", "")); len(got) != 16 {
		t.Fatalf("list of everything: %q", got)
	}
	if got := list("none/", ""); got != "" {
		t.Fatalf("list of nothing: %s", got)
	}
	stop := errors.New("stop")
	err := s.List(ctx, dir+"/l/", "", func(store.Info) error { return stop })
	if !errors.Is(err, stop) {
		t.Fatalf("List did not pass the error on: %v", err)
	}
	want := []string{"o/a-b/x", "o/a.b", "o/a/x", "o/a=b/x", "o/aa", "o/a_", "o/b/a/x", "o/b/b"}
	slices.Sort(want)
	for _, key := range want {
		must(t, s.Put(ctx, dir+"/"+key, []byte("x")))
	}
	if got := list("o/", ""); got != strings.Join(want, " ") {
		t.Fatalf("list of folders beside names: %s", got)
	}
	for i, key := range want {
		if got := list("o/", key); got != strings.Join(want[i+1:], " ") {
			t.Fatalf("list after %s: %s", key, got)
		}
	}
}

// checkDeletes removes several objects at once or one after the other, missing ones and more than one request takes
// among them.
func checkDeletes(t *testing.T, s store.Store, dir string) {
	ctx := t.Context()
	keys := []string{dir + "/none"}
	var wg sync.WaitGroup
	put := make(chan string)
	for range 8 {
		wg.Go(func() {
			for key := range put {
				if err := s.Put(ctx, key, []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range many {
		keys = append(keys, fmt.Sprintf("%s/d=%d/%d.parquet", dir, i%3, i))
		if i%2 == 0 || i > many-3 { // the others are missing
			put <- keys[len(keys)-1]
		}
	}
	for i := range many {
		put <- fmt.Sprintf("%s/stay/%04d", dir, i)
	}
	close(put)
	wg.Wait()
	must(t, store.DeleteAll(ctx, store.WithTimeouts(s, time.Minute), keys))
	n := 0
	must(t, s.List(ctx, dir+"/", "", func(i store.Info) error {
		if want := fmt.Sprintf("%s/stay/%04d", dir, n); i.Key != want {
			t.Fatalf("%s is there, want %s", i.Key, want)
		}
		n++
		return nil
	}))
	if n != many {
		t.Errorf("%d objects are left of %d", n, many)
	}
	stays := dir + "/stay/0000"
	if err := store.DeleteAll(ctx, s, []string{stays, "t/../x"}); !errors.Is(err, store.ErrKey) {
		t.Errorf("a malformed key: %v", err)
	}
	if _, err := s.Get(ctx, stays); err != nil {
		t.Errorf("removed beside a malformed key: %v", err)
	}
}

// checkRaces: one of many racing writers wins each key, and the object is the winner's, whole. The others know that
// they have lost, or, as S3 has it, that the outcome is not known.
func checkRaces(t *testing.T, s store.Store, dir string) {
	ctx := t.Context()
	for v := range 20 {
		key := fmt.Sprintf("%s/_log/%020d.json", dir, v)
		var mu sync.Mutex
		var won [][]byte
		unknown := 0
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				body := bytes.Repeat(fmt.Appendf(nil, "%d", w), 1000+v*1000)
				err := s.PutIfAbsent(ctx, key, body)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won = append(won, body)
				case !errors.Is(err, store.ErrExists):
					unknown++
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%s: %d writers won, %d do not know", key, len(won), unknown)
		}
		got, err := s.Get(ctx, key)
		if err != nil || !bytes.Equal(got, won[0]) {
			t.Fatalf("%s is not the winner's: %v", key, err)
		}
	}
}
