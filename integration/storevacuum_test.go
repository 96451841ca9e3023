package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"deckle/integration/services"
	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
)

// TestS3Vacuum: `deckle delta log|fsck|vacuum` of a table on a real S3 server, with more leftovers than one listing or
// one request to remove takes. The dry run changes nothing; a run that fails while it lists removes nothing; one whose
// answers are lost, and one whose server is killed, are finished by the next. What a version inside the retention
// needs stays, and so does what is young. A multipart upload that nobody completed is no object, and is left alone.
func TestS3Vacuum(t *testing.T) {
	binary, err := services.BuildDeckle(t.Context(), "..", t.TempDir())
	must(t, err)
	eachS3(t, func(t *testing.T, m *s3Server) {
		const leftovers = 1200
		ctx := t.Context()
		p := startLossy(t, m.Addr)
		c := &deltaCommand{t: t, m: m, binary: binary, config: filepath.Join(t.TempDir(), "deckle.yaml")}
		must(t, os.WriteFile(c.config, fmt.Appendf(nil, `node: a
data_dir: %s
cluster:
  nodes:
    - {name: a, address: "127.0.0.1:7946"}
kafka:
  brokers: ["127.0.0.1:9"]
delta:
  s3:
    endpoint: http://%s
    bucket: %s
    access_key: {env: DECKLE_S3_ACCESS_KEY}
    secret_key: {env: DECKLE_S3_SECRET_KEY}
`, t.TempDir(), p.addr, bucket), 0o600))
		st := m.open(t, m.Addr, "")
		want := agedTable(t, m, st, leftovers)
		upload := startUpload(t, m)

		if _, out, _ := c.run("log", "sessions"); strings.Count(out, "WRITE") != 3 || !strings.Contains(out, "CREATE") {
			t.Errorf("log:\n%s", out)
		}
		fsck := func(removed, nameless int) {
			t.Helper()
			code, out, errs := c.run("fsck", "sessions")
			if code != 0 || !strings.Contains(out, "0 errors, 0 warnings") ||
				!strings.Contains(out, fmt.Sprintf("%d files that nothing names", nameless)) ||
				strings.Contains(out, "removed files wait") != (removed > 0) {
				t.Errorf("fsck ends with %d:\n%s%s", code, out, errs)
			}
		}
		fsck(1, leftovers+4)
		before := keysOf(t, st)
		type result struct {
			Listed  int `json:"objects_listed"`
			Found   int `json:"objects_found"`
			Removed int `json:"objects_removed"`
		}
		vacuum := func(exit int, args ...string) (r result) {
			t.Helper()
			code, out, errs := c.run(append([]string{"vacuum", "sessions", "--json"}, args...)...)
			if code != exit {
				t.Fatalf("vacuum %v ends with %d, want %d:\n%s%s", args, code, exit, out, errs)
			}
			if out != "" {
				must(t, json.Unmarshal([]byte(out), &r))
			}
			return r
		}
		r := vacuum(0)
		if r.Listed != leftovers+7 || r.Found != leftovers+2 || r.Removed != 0 || !slices.Equal(keysOf(t, st), before) {
			t.Errorf("a dry run: %+v of %d objects, %d are left", r, len(before), len(keysOf(t, st)))
		}

		p.set(func(r *http.Request) fault {
			if r.Method == http.MethodGet && r.URL.Query().Has("continuation-token") {
				return slowDown
			}
			return pass
		})
		vacuum(1, "--delete", "--yes")
		if got := len(keysOf(t, st)); got != len(before)+1 { // and the clock
			t.Errorf("after a listing that failed in the middle %d objects are left of %d", got, len(before))
		}

		p.set(func(r *http.Request) fault {
			if removes(r) {
				return lostAnswer
			}
			return pass
		})
		vacuum(1, "--delete", "--yes")
		if got := len(keysOf(t, st)); got != len(before)+1-store.MaxDelete {
			t.Errorf("after a request without an answer %d objects are left of %d", got, len(before))
		}

		m.stage(t, "sessions/session_date=2026-11-04/staged", leftovers) // for another batch
		var batches, kills atomic.Int64
		p.set(func(r *http.Request) fault {
			if removes(r) && batches.Add(1) == 2 {
				kills.Add(1)
				if err := m.Kill(); err != nil {
					t.Error(err)
				}
			}
			return pass
		})
		vacuum(1, "--delete", "--yes")
		must(t, m.Up(ctx))
		if kills.Load() != 1 {
			t.Fatal("the server was not killed")
		}
		p.set(func(*http.Request) fault { return pass })
		if r := vacuum(0, "--delete", "--yes"); r.Removed != r.Found || r.Removed == 0 {
			t.Errorf("the last run: %+v", r)
		}
		if r := vacuum(0); r.Found != 0 {
			t.Errorf("a run after it: %+v", r)
		}
		fsck(0, 3)
		for _, key := range keysOf(t, st) {
			if strings.HasPrefix(key, "sessions/session_date=") && !want[key] {
				t.Errorf("%s is left", key)
			}
			delete(want, key)
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			t.Errorf("%s is gone", key)
		}
		upload(true)
	})
}

// removes says whether a request removes several objects.
func removes(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Query().Has("delete") }

type deltaCommand struct {
	t              *testing.T
	m              *s3Server
	binary, config string
}

// run runs a command of `deckle delta`.
func (c *deltaCommand) run(args ...string) (code int, stdout, stderr string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), c.binary, append(append([]string{"delta"}, args...), "-c", c.config)...)
	cmd.Env = append(os.Environ(), "DECKLE_S3_ACCESS_KEY="+c.m.AccessKey, "DECKLE_S3_SECRET_KEY="+c.m.SecretKey())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			c.t.Fatal(err)
		}
		code = exit.ExitCode()
	}
	return code, out.String(), errs.String()
}

// agedTable makes a table sessions. Ten days ago a file was added, and then replaced, and others were staged for
// nothing. Another file was added now, and three were staged. It returns the data files that must stay.
func agedTable(t *testing.T, m *s3Server, st *store.S3, leftovers int) map[string]bool {
	t.Helper()
	ctx, then := t.Context(), time.Now().Add(-10*24*time.Hour)
	file := func(i int) string { return fmt.Sprintf("session_date=2026-11-0%d/part-%d.parquet", 1+i%3, i) }
	write := func(now time.Time, from, to int) {
		log, err := deltalog.Open(ctx, deltalog.Options{Store: st, Name: "sessions", Rand: rand.Reader, KeepFiles: true,
			Now: func() time.Time { return now },
			Create: &deltalog.Creation{ClusterID: "c", Pipeline: "p", PartitionColumns: []string{"session_date"},
				Fields: []deltalog.Field{{Name: "x", Type: "long"}, {Name: "session_date", Type: "date"}}}})
		must(t, err)
		defer func() { must(t, log.Close()) }()
		for i := from; i <= to; i++ {
			date, _, _ := strings.Cut(strings.TrimPrefix(file(i), "session_date="), "/")
			must(t, st.Put(ctx, "sessions/"+file(i), make([]byte, 10)))
			c := &deltalog.Change{Last: true, Rows: 4,
				Adds: []deltalog.Add{{Path: file(i), Size: 10, PartitionValues: map[string]string{"session_date": date},
					ModificationTime: now.UnixMilli(), DataChange: true, Stats: `{"numRecords":4}`}}}
			log.View(func(s *deltalog.Snapshot) {
				c.Parts = []deltalog.Part{s.Part("c/p/0/sessions", int64(i))}
				for f := range s.All() {
					if i == 2 {
						c.Removes = append(c.Removes, f.Path)
					}
				}
			})
			must(t, log.Submit(ctx, c))
		}
	}
	write(then, 1, 2)
	for _, key := range keysOf(t, st) {
		data, err := st.Get(ctx, key)
		must(t, err)
		must(t, m.putOld(ctx, key, data, then))
	}
	m.stage(t, "sessions/session_date=2026-11-03/staged", leftovers)
	foreign := "sessions/session_date=2026-11-03 +%20&/a \"<ä>\".parquet" // a leftover of another tool
	must(t, m.putOld(ctx, foreign, []byte("x"), then))
	write(time.Now(), 3, 3)
	want := map[string]bool{"sessions/" + file(2): true, "sessions/" + file(3): true}
	for i := range 3 {
		key := fmt.Sprintf("sessions/session_date=2026-11-03/young-%d.parquet", i)
		must(t, st.Put(ctx, key, []byte("x")))
		want[key] = true
	}
	return want
}

// stage puts n objects that are ten days old.
func (m *s3Server) stage(t *testing.T, name string, n int) {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(8)
	for i := range n {
		g.Go(func() error {
			then := time.Now().Add(-10 * 24 * time.Hour)
			return m.putOld(t.Context(), fmt.Sprintf("%s-%d.parquet", name, i), []byte("x"), then)
		})
	}
	must(t, g.Wait())
}

// startUpload begins a multipart upload below the table, as another writer may have left one. The function that it
// returns says whether it is still there.
func startUpload(t *testing.T, m *s3Server) (check func(want bool)) {
	t.Helper()
	cl, err := m.Client()
	must(t, err)
	core, key := minio.Core{Client: cl}, "sessions/session_date=2026-11-01/large.parquet"
	id, err := core.NewMultipartUpload(t.Context(), bucket, key, minio.PutObjectOptions{})
	must(t, err)
	part := bytes.NewReader(make([]byte, 5<<20))
	_, err = core.PutObjectPart(t.Context(), bucket, key, id, 1, part, part.Size(), minio.PutObjectPartOptions{})
	must(t, err)
	return func(want bool) {
		t.Helper()
		r, err := core.ListMultipartUploads(t.Context(), bucket, key, "", "", "", 10)
		must(t, err)
		if got := len(r.Uploads) == 1 && r.Uploads[0].UploadID == id; got != want {
			t.Errorf("multipart uploads: %+v", r.Uploads)
		}
	}
}

func keysOf(t *testing.T, st store.Store) (keys []string) {
	t.Helper()
	must(t, st.List(context.WithoutCancel(t.Context()), "", "", func(i store.Info) error {
		keys = append(keys, i.Key)
		return nil
	}))
	return keys
}
