package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"deckle/node/config"
	"deckle/sinks/clickhouse"
	"deckle/sinks/delta/store"
	"deckle/trust"
)

// Outcome is what a Finding has come to.
type Outcome string

// The outcomes, from good to bad.
const (
	Fine    Outcome = "ok"
	Unknown Outcome = "unknown" // it could not be found out, and need not be wrong
	Advice  Outcome = "notice"  // it works, and somebody may want to know
	Failed  Outcome = "failed"  // it does not work now; it may pass
	Refused Outcome = "refused" // it does not work until somebody acts
)

// Finding is one thing that a node will need, and whether it is there.
type Finding struct {
	Check   string  `json:"check"` // "kafka.brokers", "delta.s3", …: the key that it is about, or what it is
	Outcome Outcome `json:"outcome"`
	Text    string  `json:"text"`
	Todo    string  `json:"todo,omitempty"`
}

// Bounds of what Connect does.
const (
	connectTimeout = 20 * time.Second // of each part, all of which run at once
	askTimeout     = 5 * time.Second  // of one question
	fsyncs         = 20
	slowFsync      = 50 * time.Millisecond // the second slowest of them
	clockOff       = 2 * time.Second
)

// connector is what the parts of Connect share.
type connector struct {
	cfg   *config.Config
	deps  *Deps
	files *trust.Files
	wire  *sinkWiring
}

// failing judges an error of a service: refused says whether it stays until somebody acts.
func failing(check string, err error, todo string, refused bool) Finding {
	f := Finding{Check: check, Outcome: Failed, Text: err.Error(), Todo: todo}
	if refused {
		f.Outcome = Refused
	}
	return f
}

// lake looks at the store of the Delta tables, and at its clock.
func (c *connector) lake(ctx context.Context) []Finding {
	found := c.lakeAlone(ctx)
	if d := c.cfg.Delta; d != nil && d.S3 != nil && c.deps.DeltaStore == nil && len(found) > 0 {
		found = append(found, c.storeClock(ctx, d.S3)...)
	}
	return found
}

// lakeAlone writes, reads and removes an object, twice under the condition that there is none yet.
func (c *connector) lakeAlone(ctx context.Context) (found []Finding) {
	d := c.cfg.Delta
	if d == nil {
		return nil
	}
	check := "delta.path"
	if d.S3 != nil {
		check = "delta.s3"
	}
	st, err := c.wire.deltaStore(d)
	if err != nil {
		return []Finding{failing(check, err, "", true)}
	}
	if err := store.Probe(ctx, st, "", c.deps.Random); err != nil {
		todo, refused := store.Refused(err)
		found = append(found, failing(check, err, todo, refused))
	} else {
		found = append(found, Finding{check, Fine, st.String() + ": an object was written, read and removed, and was " +
			"not replaced under a condition", ""})
	}
	return found
}

// storeClock compares this machine's clock with the Date of an answer, which is a whole second.
func (c *connector) storeClock(ctx context.Context, s *config.S3) []Finding {
	present, err := client(c.files, "delta.s3.tls", s.TLS)
	if err != nil {
		return nil // which the store has said
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	if present != nil {
		transport.TLSClientConfig = present()
	} else {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, s.Endpoint, nil)
	if err != nil {
		return nil
	}
	before := c.deps.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return []Finding{{"clock", Unknown, err.Error(), ""}}
	}
	_ = resp.Body.Close()
	after := c.deps.Now()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return []Finding{{"clock", Unknown, "the store tells no Date", ""}}
	}
	return []Finding{clock("the store's", date.Add(time.Second/2).Sub(before.Add(after.Sub(before)/2)))}
}

// clock judges how far another clock is ahead of this machine's.
func clock(whose string, ahead time.Duration) Finding {
	text := fmt.Sprintf("%s is %s ahead of this machine's", whose, ahead.Round(100*time.Millisecond))
	if ahead < 0 {
		text = fmt.Sprintf("%s is %s behind this machine's", whose, (-ahead).Round(100*time.Millisecond))
	}
	if ahead.Abs() > clockOff {
		return Finding{"clock", Advice, text, "Let all machines follow one source of time (chrony, " +
			"systemd-timesyncd). S3 refuses requests that are 15 minutes off."}
	}
	return Finding{"clock", Fine, text, ""}
}

// inspecting returns a sink that only asks.
func (c *connector) inspecting() (*clickhouse.Sink, error) {
	o, _, err := c.wire.clickHouseOptions()
	if err != nil {
		return nil, err
	}
	o.ReadTimeout, o.DialTimeout, o.Logger, o.Now = askTimeout, askTimeout, c.deps.Logger, c.deps.Now
	o.ClusterID, o.Pipeline, o.NodeName = "check", c.cfg.Cluster.Pipeline, c.cfg.Node
	return clickhouse.New(o), nil
}

// clickHouse connects, and asks for version, clock, database and grants.
func (c *connector) clickHouse(ctx context.Context) (found []Finding) {
	h := c.cfg.ClickHouse
	if h == nil {
		return nil
	}
	sink, err := c.inspecting()
	if err != nil {
		return []Finding{failing("clickhouse", err, "", true)}
	}
	defer func() { _ = sink.Close() }()
	server, err := sink.Inspect(ctx)
	if err != nil && server == nil {
		todo, refused := clickhouse.Refused(err)
		if _, port, _ := net.SplitHostPort(h.Address); !refused && (port == "8123" || port == "8443") {
			todo = "Port " + port + " is HTTP's, as a rule: give that of the native protocol, 9000, or 9440 with tls."
		}
		return []Finding{failing("clickhouse", err, todo, refused)}
	}
	if err != nil {
		found = append(found, Finding{"clickhouse", Unknown, err.Error(), ""})
	}
	if server.Version != "" {
		found = append(found, Finding{"clickhouse", Fine, fmt.Sprintf("%s answers, version %s", h.Address,
			server.Version), ""}, clock("ClickHouse's", server.Clock))
	}
	if err == nil && !server.Exists {
		found = append(found, Finding{"clickhouse.database", Fine,
			h.Database + " is not there yet: the node creates it", ""})
	}
	if lacks := server.Lacks(h.Database); len(lacks) > 0 {
		found = append(found, Finding{"rights in ClickHouse", Refused, fmt.Sprintf("the user lacks on %s.*: %s",
			h.Database, strings.Join(lacks, ", ")), "deploy/rights/clickhouse.sql has all that are needed."})
	} else if len(server.Grants) > 0 {
		found = append(found, Finding{"rights in ClickHouse", Fine, "none is known to be missing", ""})
	}
	return found
}
