package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"deckle/node/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// syncBuffer is written by the demo and read by the test.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestDemo runs everything: three nodes, a broker, the simulator, the page although its port is taken, the end by the
// context as with Ctrl-C, the drain, the reconciliation.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a cluster for some seconds")
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var live syncBuffer
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	seen := make(chan web.Analytics, 1)
	report, err := Run(ctx, Options{
		Rate: 500, Shards: 3, Dir: t.TempDir(), Seed: 1, FlushInterval: time.Second, HTTP: taken.Addr().String(),
		Live: &live,
		OnListen: func(url string) {
			if strings.Contains(url, taken.Addr().String()) {
				t.Errorf("the page is said to be at the taken address %s", url)
			}
			go func() {
				defer cancel() // Ctrl-C, once the page shows a thousand events
				seen <- watchPage(ctx, t, client, url)
			}()
		},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, live.String())
	}
	if a := <-seen; a.Today.Total.Events+a.All.Total.Events < 1000 || len(a.All.Brands) < 5 {
		t.Errorf("the page's figures: %+v", a)
	}
	var table bytes.Buffer
	if err := report.Table(&table); err != nil {
		t.Fatal(err)
	}
	if !report.Equal || report.ProducedEvents < 1000 || report.Duplicates == 0 || report.P99VisibleMS == nil ||
		report.DeltaEvents != report.AppliedEvents || report.DeltaSessions != report.ProducedSessions ||
		report.ClickHouseSessions != nil {
		t.Errorf("%s\n%s", table.String(), live.String())
	}
	if len(report.Checks) != 1+3*5+3 {
		t.Errorf("%d checks: %s", len(report.Checks), table.String())
	}
	if !strings.Contains(live.String(), "is taken; the page takes another port") {
		t.Errorf("live: %s", live.String())
	}
}

// watchPage polls the API, as the page does, until a thousand events are shown.
func watchPage(ctx context.Context, t *testing.T, client *http.Client, url string) web.Analytics {
	var a web.Analytics
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(60 * time.Second)
	for a.All.Total.Events < 1000 {
		select {
		case <-deadline:
			t.Errorf("a thousand events were not shown within a minute: %+v", a.All.Total)
			return a
		case <-ctx.Done():
			return a
		case <-tick.C:
		}
		resp, err := client.Get(url + "api/v1/analytics")
		if err != nil {
			t.Error(err)
			return a
		}
		err = json.NewDecoder(resp.Body).Decode(&a)
		_ = resp.Body.Close()
		if err != nil {
			t.Error(err)
			return a
		}
	}
	return a
}

// TestNoService says at once which service cannot be reached.
func TestNoService(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := Run(ctx, Options{Dir: t.TempDir(), Brokers: []string{"127.0.0.1:1"}})
	if err == nil || !strings.Contains(err.Error(), "Kafka at [127.0.0.1:1]") ||
		!strings.Contains(err.Error(), "deckle.log") {
		t.Errorf("%v", err)
	}
}
