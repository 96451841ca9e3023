package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"deckle/node/condition"
)

// clusterStatus is the part of /api/v1/cluster that deckle status shows.
type clusterStatus struct {
	Node       string          `json:"node"`
	ClusterID  string          `json:"cluster_id"`
	Version    string          `json:"version"`
	Now        time.Time       `json:"now"`
	Health     string          `json:"health"`
	CanLoseOne *bool           `json:"can_lose_one"`
	Because    string          `json:"because"`
	Members    []clusterMember `json:"members"`
	Shards     struct {
		Count      int      `json:"count"`
		Leaderless []uint32 `json:"without_leader"`
	} `json:"shards"`
	LagRecords *int64            `json:"lag_records"`
	LagSeconds *float64          `json:"lag_seconds"`
	Sinks      []clusterSink     `json:"sinks"`
	Conditions []condition.Found `json:"conditions"`
}

type clusterMember struct {
	Node     string          `json:"node"`
	Answers  bool            `json:"answers"`
	UpToDate bool            `json:"up_to_date"`
	Since    *time.Time      `json:"since"`
	Clock    *float64        `json:"clock_offset_seconds"`
	ToldAt   *time.Time      `json:"told_at"`
	Figures  *clusterFigures `json:"figures"`
}

type clusterFigures struct {
	Version    string    `json:"version"`
	Level      uint32    `json:"level"`
	Started    time.Time `json:"started"`
	Leads      []uint32  `json:"shards_led"`
	Follows    []uint32  `json:"shards_followed"`
	Drained    bool      `json:"drained"`
	LagRecords *int64    `json:"lag_records"`
	DiskBytes  int64     `json:"disk_bytes"`
	DiskLimit  *int64    `json:"disk_limit_bytes"`
	Memory     int64     `json:"memory_bytes"`
	Sessions   int64     `json:"session_memory_bytes"`
	Files      *int64    `json:"open_files"`
	FileLimit  *int64    `json:"open_files_limit"`
	// SessionLimit bounds Sessions.
	SessionLimit *int64 `json:"session_memory_limit_bytes"`
	// Certificates are those in use, the first to expire first.
	Certificates []clusterCertificate `json:"certificates"`
}

type clusterCertificate struct {
	Key     string    `json:"key"`
	Expires time.Time `json:"expires"`
}

type clusterSink struct {
	Sink   string   `json:"sink"`
	Behind uint64   `json:"epochs_behind"`
	P50    *float64 `json:"visible_p50_ms"`
	P99    *float64 `json:"visible_p99_ms"`
}

// code is the exit code.
func (c *clusterStatus) code() int {
	switch c.Health {
	case "well":
		return exitOK
	case condition.Stopped.String():
		return statusStopped
	}
	return statusDegraded
}

// painter paints text for a terminal, if it may.
type painter struct{ colour bool }

// The ways to paint, as terminals number them.
const (
	bold   = "1"
	dim    = "2"
	red    = "1;31"
	green  = "32"
	yellow = "33"
)

func (p *painter) paint(how, text string) string {
	if !p.colour || how == "" {
		return text
	}
	return "\x1b[" + how + "m" + text + "\x1b[0m"
}

// colourOf is how a severity, or the health of the cluster, is painted.
func colourOf(severity string) string {
	switch severity {
	case "stopped", "failing":
		return red
	case "degraded":
		return yellow
	case "well":
		return green
	}
	return ""
}

// printable drops what a terminal would take for a command: texts of other programs, and of records, are in conditions.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
}

// screen is the status for people.
func (c *clusterStatus) screen(p *painter) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  cluster %s, asked node %s at %s\n",
		p.paint(colourOf(c.Health), strings.ToUpper(printable(c.Health))), printable(cmp.Or(c.ClusterID, "-")),
		printable(c.Node), c.Now.UTC().Format(time.RFC3339))
	word, how := "not known", yellow
	if c.CanLoseOne != nil {
		word, how = "yes", green
		if !*c.CanLoseOne {
			word, how = "no", red
		}
	}
	if len(c.Members) == 1 {
		how = ""
	}
	fmt.Fprintf(&b, "One more node may be lost: %s", p.paint(how, word))
	if c.Because != "" {
		fmt.Fprintf(&b, ", because %s", printable(c.Because))
	}
	b.WriteString("\n\n")
	c.nodes(&b, p)
	shards := fmt.Sprintf("%d, each with a leader", c.Shards.Count)
	if n := len(c.Shards.Leaderless); n > 0 {
		shards = p.paint(red, fmt.Sprintf("%d, without a leader: %s", c.Shards.Count, numbers(c.Shards.Leaderless)))
	}
	lag := known(c.LagRecords) + " records"
	if c.LagSeconds != nil {
		lag += fmt.Sprintf(", %.1f s", *c.LagSeconds)
	}
	fmt.Fprintf(&b, "\nshards  %s\nlag     %s\n", shards, lag)
	for i := range c.Sinks {
		s := &c.Sinks[i]
		name := ""
		if i == 0 {
			name = "sinks"
		}
		text := fmt.Sprintf("%s: %d epochs behind", printable(s.Sink), s.Behind)
		if s.P99 != nil {
			text += fmt.Sprintf(", visible after %.1f s (p99)", *s.P99/1000)
		}
		fmt.Fprintf(&b, "%-7s %s\n", name, text)
	}
	c.conditions(&b, p)
	return b.String()
}

func (c *clusterStatus) nodes(b *strings.Builder, p *painter) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSTATE\tVERSION\tLEVEL\tLEADS\tFOLLOWS\tLAG\tDISK\tMEMORY\tFILES\tCLOCK\tCERTIFICATE")
	for i := range c.Members {
		fmt.Fprintln(w, strings.Join(c.node(&c.Members[i]), "\t"))
	}
	_ = w.Flush() // to a strings.Builder
	if !p.colour {
		return
	}
	// tabwriter counts the bytes of colours as text: lines are painted afterwards.
	lines := strings.Split(b.String(), "\n")
	first := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "NODE ") })
	for i := range c.Members {
		l := &lines[first+1+i]
		switch m := &c.Members[i]; {
		case !m.Answers:
			*l = p.paint(red, *l)
		case !m.UpToDate:
			*l = p.paint(yellow, *l)
		}
	}
	b.Reset()
	b.WriteString(strings.Join(lines, "\n"))
}

// node is the row of one node.
func (c *clusterStatus) node(m *clusterMember) []string {
	state := "up"
	switch {
	case !m.Answers:
		state = "DOWN"
	case !m.UpToDate:
		state = "catching up"
	}
	since := m.Since
	f := m.Figures
	if m.Answers && f != nil {
		since = &f.Started
	}
	if since != nil && m.UpToDate || since != nil && !m.Answers {
		state += " " + short(c.Now.Sub(*since))
	}
	if m.Answers && f != nil && f.Drained {
		state += ", drained"
	}
	clock := "-"
	if m.Clock != nil {
		clock = fmt.Sprintf("%+.3fs", *m.Clock)
	}
	if f == nil {
		return []string{printable(m.Node), state, "-", "-", "-", "-", "-", "-", "-", "-", clock, "-"}
	}
	leads, follows, lag := numbers(f.Leads), numbers(f.Follows), known(f.LagRecords)
	if !m.Answers { // nobody knows what it does now; disk and certificate are as it told last
		leads, follows, lag, clock = "-", "-", "-", "-"
	}
	certificate := "-"
	if len(f.Certificates) > 0 {
		first := f.Certificates[0]
		if certificate = "EXPIRED"; first.Expires.After(c.Now) {
			certificate = short(first.Expires.Sub(c.Now))
		}
		certificate += " (" + printable(first.Key) + ")"
	}
	level := "-"
	if f.Level > 0 {
		level = strconv.Itoa(int(f.Level))
	}
	return []string{printable(m.Node), state, printable(f.Version), level, leads, follows, lag,
		fill(size(f.DiskBytes), f.DiskLimit, size), size(f.Memory),
		fill(known(f.Files), f.FileLimit, func(n int64) string { return strconv.FormatInt(n, 10) }), clock, certificate}
}

func (c *clusterStatus) conditions(b *strings.Builder, p *painter) {
	if len(c.Conditions) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", p.paint(bold, fmt.Sprintf("conditions (%d), the gravest first", len(c.Conditions))))
	for i := range c.Conditions {
		f := &c.Conditions[i]
		severity := f.Severity.String()
		by := "node "
		if len(f.Nodes) > 1 {
			by = "nodes "
		}
		fmt.Fprintf(b, "%s %s: %s, for %s, found by %s%s\n", p.paint(colourOf(severity), severity),
			printable(f.Subject), printable(string(f.ID)), short(c.Now.Sub(f.Since)), by,
			printable(strings.Join(f.Nodes, ", ")))
		fmt.Fprintf(b, "    %s\n", printable(f.Text))
		if f.Todo != "" {
			fmt.Fprintf(b, "    %s %s\n", p.paint(dim, "do:"), printable(f.Todo))
		}
	}
}

// known is a number, "-" if it is not known.
func known(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}

// fill is what is used of a limit.
func fill(used string, limit *int64, show func(int64) string) string {
	if limit == nil {
		return used
	}
	return used + "/" + show(*limit)
}

// numbers lists shards, runs of them by their ends: "0-2,5".
func numbers(list []uint32) string {
	if len(list) == 0 {
		return "-"
	}
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		switch part := strconv.Itoa(int(list[i])); j {
		case i:
			parts = append(parts, part)
		case i + 1:
			parts = append(parts, part, strconv.Itoa(int(list[j])))
		default:
			parts = append(parts, part+"-"+strconv.Itoa(int(list[j])))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// size is a number of bytes in a few letters.
func size(n int64) string {
	f, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	if i == 0 || f >= 100 {
		return fmt.Sprintf("%.0f%s", f, units[i])
	}
	return fmt.Sprintf("%.1f%s", f, units[i])
}

// short is a time in at most two units: "3d4h", "12m", "8s".
func short(d time.Duration) string {
	d = max(d, 0)
	day := 24 * time.Hour
	switch {
	case d >= 10*day:
		return fmt.Sprintf("%dd", d/day)
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
