package vacuum

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/deletionvector/vectortest"
	"deckle/sinks/delta/store"
)

// leftovers makes a table with n staged leftovers in a world, and lets three weeks go by.
func leftovers(t *testing.T, n int) *world {
	w := newWorld(t, 1)
	t.Cleanup(func() { w.must(w.log.Close()) })
	for range n {
		w.put()
	}
	w.commit(nil, []string{w.put()})
	w.pass(3 * Least)
	w.commit(nil, []string{w.put()})
	return w
}

func (w *world) prepare(change func(*Options)) (*Run, error) {
	o := Options{Store: w.mem, Table: table, Clock: true, Now: func() time.Time { return w.now }}
	if change != nil {
		change(&o)
	}
	return Prepare(w.t.Context(), o)
}

func (w *world) write(lines ...string) {
	w.mem.Overwrite(fmt.Sprintf("%s/_delta_log/%020d.json", table, len(w.versions)),
		[]byte(strings.Join(lines, "\n")+"\n"))
	w.committed()
}

func TestShortRetentions(t *testing.T) {
	w := leftovers(t, 3)
	meta := func(retention string) string {
		return `{"metaData":{"id":"ID","format":{"provider":"parquet","options":{}},"schemaString":"{}",` +
			`"partitionColumns":["d"],"configuration":{"delta.deletedFileRetentionDuration":"` + retention + `"}}}`
	}
	id := ""
	r, err := w.prepare(nil)
	if err != nil {
		t.Fatal(err)
	}
	id = r.id
	for _, row := range []struct {
		retain time.Duration
		short  bool
		table  string
		want   time.Duration // 0: refused
		err    error
	}{
		{0, false, "", Least, nil}, {Least, false, "", Least, nil}, {2 * Least, false, "", 2 * Least, nil},
		{Least - 1, false, "", 0, ErrShort}, {Least - 1, true, "", Least - 1, nil}, {Floor, true, "", Floor, nil},
		{Floor - 1, true, "", 0, ErrShort}, {0, false, "interval 1 hour", Least, nil},
		{0, false, "interval 30 days", 720 * time.Hour, nil}, {Least, false, "interval 30 days", 0, ErrShort},
		{Least, true, "interval 30 days", Least, nil}, {0, false, "interval 1 month", 0, ErrRefused},
	} {
		if row.table != "" {
			w.write(strings.ReplaceAll(meta(row.table), "ID", id))
		}
		r, err := w.prepare(func(o *Options) { o.Retention, o.Short = row.retain, row.short })
		if !errors.Is(err, row.err) || err == nil && r.Retention != row.want {
			t.Errorf("%+v: %v", row, err)
		}
	}
}

// A table that may name objects in a way that is not known is left alone, whenever that shows.
func TestRefused(t *testing.T) {
	feature := func(f string) string {
		return `{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["` + f +
			`"],"writerFeatures":["` + f + `"]}}`
	}
	for name, line := range map[string]string{
		"v2 checkpoints": feature("v2Checkpoint"),
		"unknown":        feature("somethingNew"),
		"absolute":       `{"add":{"path":"s3://b/t/x","partitionValues":{},"size":1}}`,
		"outside":        `{"add":{"path":"../x","partitionValues":{},"size":1}}`, "torn": `{"add":{"pa`,
		"made anew": `{"metaData":{"id":"other","format":{"provider":"parquet","options":{}},"schemaString":"{}",` +
			`"partitionColumns":[],"configuration":{}}}`,
	} {
		w := leftovers(t, 3)
		r, err := w.prepare(nil)
		w.must(err)
		before := len(w.mem.Keys(table + "/d="))
		w.write(line)
		if err := r.Remove(t.Context(), nil); err == nil {
			t.Errorf("%s: taken, where it came after the listing", name)
		}
		if _, err := w.prepare(nil); err == nil && name != "made anew" {
			t.Errorf("%s: taken", name)
		}
		if after := len(w.mem.Keys(table + "/d=")); after != before {
			t.Errorf("%s: %d objects of %d are left", name, after, before)
		}
	}
}

// Features that bind writers alone are no reason to refuse, and a file of change data stays as long as its commit.
func TestWriterFeatures(t *testing.T) {
	w := leftovers(t, 3)
	w.mem.Overwrite(table+"/_change_data/cdc-1.parquet", nil)
	w.mem.Overwrite(table+"/_change_data/cdc-2.parquet", nil)
	w.pass(3 * Least)
	w.write(`{"protocol":{"minReaderVersion":1,"minWriterVersion":7,"writerFeatures":["changeDataFeed","rowTracking",`+
		`"domainMetadata","checkConstraints"]}}`, `{"cdc":{"path":"_change_data/cdc-1.parquet","partitionValues":{}}}`)
	r, err := w.prepare(nil)
	w.must(err)
	w.must(r.Remove(t.Context(), nil))
	if got := w.mem.Keys(table + "/_change_data/"); len(got) != 1 || !strings.HasSuffix(got[0], "cdc-1.parquet") {
		t.Errorf("change data: %q", got)
	}
	if got := w.mem.Keys(table + "/d="); len(got) != 2 {
		t.Errorf("files: %q", got)
	}
}

// Whoever takes a file back before the look at the log keeps it; after it, the error names the file.
func TestTakenBack(t *testing.T) {
	for _, late := range []bool{false, true} {
		w := leftovers(t, 3)
		r, err := w.prepare(nil)
		w.must(err)
		path := r.Objects[0].path
		take := func() { w.write(fmt.Sprintf(`{"add":{"path":%q,"partitionValues":{"d":"x"},"size":1}}`, path)) }
		if !late {
			take()
		}
		w.mem.SetHook(func(op, key string) error {
			if late && op == "delete" && strings.HasSuffix(key, path) {
				late = false
				take()
				late = true
			}
			return nil
		})
		err = r.Remove(t.Context(), nil)
		switch {
		case late && (!errors.Is(err, ErrTakenBack) || !strings.Contains(err.Error(), path)):
			t.Errorf("late: %v", err)
		case !late && (err != nil || len(r.Spared) != 1 || len(r.Removed) != 2):
			t.Errorf("%v, %d spared, %d removed", err, len(r.Spared), len(r.Removed))
		}
	}
}

// A clock here that is ahead removes nothing young; one that is behind spares. Without the store's time nothing goes.
func TestClocks(t *testing.T) {
	for _, clock := range []bool{true, false} {
		for ahead, want := range map[time.Duration]int{0: 3, 365 * 24 * time.Hour: 3, -3 * Least: 0} {
			if !clock && ahead > 0 {
				want++ // shown, and never removed
			}
			w := leftovers(t, 3)
			w.put() // young
			r, err := w.prepare(func(o *Options) {
				o.Clock, o.Now = clock, func() time.Time { return w.now.Add(ahead) }
			})
			w.must(err)
			if len(r.Objects) != want {
				t.Errorf("clock %v, ahead %v: %d objects, want %d", clock, ahead, len(r.Objects), want)
			}
			if !clock && len(w.mem.Keys(table+"/_deckle_vacuum")) != 0 {
				t.Error("a run that is not to write has written")
			}
			if err := r.Remove(t.Context(), nil); (err == nil) != clock {
				t.Errorf("clock %v: %v", clock, err)
			}
		}
	}
}

// Old objects go under any name that others may have given them. Names that are no text are left, and named.
func TestOddNames(t *testing.T) {
	w := newWorld(t, 2)
	defer w.log.Close()
	foreign, odd := table+"/d=a b+c/ä%20.parquet", table+"/d=a\nb/x.parquet"
	w.mem.Overwrite(foreign, nil)
	w.mem.Overwrite(odd, nil)
	w.pass(3 * Least)
	r, err := w.prepare(nil)
	w.must(err)
	if len(r.Objects) != 1 || r.Objects[0].Key != foreign || fmt.Sprint(r.Left) != "["+odd+"]" {
		t.Errorf("%v, left %q", r.Objects, r.Left)
	}
	w.must(r.Remove(t.Context(), nil))
	if keys := w.mem.Keys(table + "/d=a"); fmt.Sprint(keys) != "["+odd+"]" {
		t.Errorf("left in the store: %q", keys)
	}
}

// On S3 a thousand objects go by one request, and what the store does not remove stays to be done.
func TestByRequests(t *testing.T) {
	w := leftovers(t, 0)
	fake := &objects.S3{Bucket: "lake"}
	srv := httptest.NewServer(fake)
	defer srv.Close()
	s3, err := store.NewS3(store.S3Options{Endpoint: srv.URL, Bucket: "lake", MaxRetries: 1,
		Credentials: store.StaticCredentials("key", "secret")})
	w.must(err)
	defer s3.Close()
	for key, data := range w.mem.Contents() {
		w.must(s3.Put(t.Context(), key, data))
	}
	for i := range 25 {
		w.must(s3.Put(t.Context(), fmt.Sprintf("%s/d=1/left-%d.parquet", table, i), nil))
	}
	o := Options{Store: s3, Table: table, Batch: 10, Clock: true}
	r, err := Prepare(t.Context(), o)
	w.must(err)
	if len(r.Objects) != 0 {
		t.Fatalf("%d young objects would go", len(r.Objects))
	}
	for i := range 25 { // old by hand: this store's clock is real
		r.Objects = append(r.Objects, Object{Key: fmt.Sprintf("%s/d=1/left-%d.parquet", table, i),
			path: fmt.Sprintf("d=1/left-%d.parquet", i)})
	}
	batches := 0
	w.must(r.Remove(t.Context(), func() { batches++ }))
	left := 0
	w.must(s3.List(t.Context(), table+"/d=1/", "", func(store.Info) error { left++; return nil }))
	if left != 0 || batches != 3 || len(r.Removed) != 25 {
		t.Errorf("%d left after %d requests, %d removed", left, batches, len(r.Removed))
	}
}

// The objects of deletion vectors stay as long as the files that they are of: those of live files, and those of files
// that were removed inside the retention.
func TestVectorsStay(t *testing.T) {
	w := leftovers(t, 3)
	var keys []string
	vector := func(n uint64) string {
		d := vectortest.Put(t, w.mem, table, n, 0, vectortest.Encode(t, 1), 1)
		key, err := d.Key()
		w.must(err)
		keys = append(keys, table+"/"+key)
		b, err := json.Marshal(d)
		w.must(err)
		return `"deletionVector":` + string(b)
	}
	add := func(action, vector string, more string) string {
		return `{"` + action + `":{"path":"d=2026-11-01/v.parquet","partitionValues":{"d":"2026-11-01"},"size":1,` +
			`"modificationTime":1,"dataChange":true,` + more + vector + `}}`
	}
	live, former, _ := vector(1), vector(2), vector(3)
	w.mem.Overwrite(table+"/d=2026-11-01/v.parquet", []byte("x"))
	w.write(`{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],` +
		`"writerFeatures":["deletionVectors"]}}`)
	w.write(add("add", former, ""))
	w.pass(30 * 24 * time.Hour)
	w.write(add("remove", former, fmt.Sprintf(`"deletionTimestamp":%d,`, w.now.UnixMilli())) + "\n" +
		add("add", live, ""))
	w.pass(49 * time.Hour)
	r, err := w.prepare(nil)
	w.must(err)
	w.must(r.Remove(t.Context(), nil))
	for n, key := range keys {
		if _, err := w.mem.Get(t.Context(), key); (err == nil) != (n < 2) {
			t.Errorf("vector %d: %v", n+1, err)
		}
	}
	w.write(add("add", strings.Replace(live, `"u"`, `"p"`, 1), ""))
	if _, err := w.prepare(nil); !errors.Is(err, ErrRefused) {
		t.Errorf("a vector elsewhere: %v", err)
	}
}
