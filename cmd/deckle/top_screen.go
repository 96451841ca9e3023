package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// topLine is a line of the screen, and how it is painted.
type topLine struct{ text, how string }

// Sizes of a terminal that has not told its own.
const topWidth, topHeight = 80, 24

// screen is what the terminal has room for, with a line at its end that says what is not there.
func (m *topModel) screen() string {
	width, height := cmp.Or(m.width, topWidth), max(cmp.Or(m.height, topHeight), 3)
	lines := m.lines()
	room := height - 1
	m.from = max(min(m.from, len(lines)-room), 0)
	shown := lines[m.from:min(m.from+room, len(lines))]
	var b strings.Builder
	for _, l := range shown {
		b.WriteString(m.paint.paint(l.how, cut(l.text, width)) + "\n")
	}
	foot := "q end, space stand still"
	if m.still {
		foot = "q end, space go on, STANDS STILL"
	}
	if len(lines) > room {
		foot += fmt.Sprintf(", lines %d-%d of %d (arrows)", m.from+1, m.from+len(shown), len(lines))
	}
	b.WriteString(m.paint.paint(dim, cut(foot, width)))
	return b.String()
}

// all is every line, as wide as it is.
func (m *topModel) all() string {
	var b strings.Builder
	for i, l := range m.lines() {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(m.paint.paint(l.how, l.text))
	}
	return b.String()
}

// cut shortens a text to a number of characters; … stands for the rest.
func cut(text string, width int) string {
	if r := []rune(text); len(r) > width {
		return string(r[:max(width-1, 0)]) + "…"
	}
	return text
}

func (m *topModel) lines() (lines []topLine) {
	if m.err != nil {
		lines = append(lines, topLine{"NO ANSWER: " + printable(m.err.Error()), red})
	}
	if m.frame == nil {
		if m.err == nil {
			lines = append(lines, topLine{"asking …", dim})
		}
		return lines
	}
	f := m.frame
	lines = append(lines, m.head()...)
	lines = append(append(lines, topLine{}), f.nodes()...)
	lines = append(append(lines, topLine{}), f.sinks()...)
	lines = append(append(lines, topLine{}), f.shards()...)
	return append(append(lines, topLine{}), f.partitions()...)
}

// head is the state of the cluster in a few lines: health, redundancy, flow, and the gravest conditions.
func (m *topModel) head() []topLine {
	c, t := &m.frame.cluster, &m.frame.status.Totals
	lines := []topLine{{fmt.Sprintf("%s  cluster %s, asked node %s at %s", strings.ToUpper(printable(c.Health)),
		printable(cmp.Or(c.ClusterID, "-")), printable(c.Node), c.Now.UTC().Format(time.TimeOnly)), colourOf(c.Health)}}
	lose := topLine{"one more node may be lost: not known", yellow}
	if c.CanLoseOne != nil {
		lose = topLine{"one more node may be lost: yes", ""}
		if !*c.CanLoseOne {
			lose = topLine{"one more node may be lost: NO", red}
		}
	}
	if c.Because != "" {
		lose.text += ", because " + printable(c.Because)
	}
	rate := "-"
	if m.rate != nil {
		rate = fmt.Sprintf("%.0f", *m.rate)
	}
	lag := known(c.LagRecords) + " records"
	if c.LagSeconds != nil {
		lag += fmt.Sprintf(", %.1f s", *c.LagSeconds)
	}
	lines = append(lines, lose, topLine{fmt.Sprintf("events/s %s   lag %s   live sessions %d   dead letters %d",
		rate, lag,
		t.Sessions, t.Letters), ""})
	const most = 3
	for i := range c.Conditions {
		if i == most {
			return append(lines, topLine{fmt.Sprintf("! and %d more conditions (deckle status)",
				len(c.Conditions)-most),
				""})
		}
		f := &c.Conditions[i]
		lines = append(lines, topLine{fmt.Sprintf("! %s %s: %s, for %s: %s", f.Severity, printable(f.Subject),
			printable(string(f.ID)), short(c.Now.Sub(f.Since)), printable(f.Text)), colourOf(f.Severity.String())})
	}
	return lines
}

// table lines up rows, which are painted afterwards: colours have no width.
func table(rows [][]string, how []string) (lines []topLine) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	_ = w.Flush() // to a strings.Builder
	for i, text := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
		lines = append(lines, topLine{strings.TrimRight(text, " "), how[i]})
	}
	return lines
}

// gauge is how far a limit is filled, in characters and as a number.
func gauge(used int64, limit *int64) string {
	if limit == nil || *limit <= 0 {
		return "-"
	}
	const cells = 5
	share := max(float64(used)/float64(*limit), 0)
	full := min(int(share*cells+0.5), cells)
	return fmt.Sprintf("[%s%s] %.0f%%", strings.Repeat("#", full), strings.Repeat(".", cells-full), share*100)
}

func (f *topFrame) nodes() []topLine {
	rows, how := [][]string{{"NODE", "STATE", "LEADS", "LAG", "DISK", "SESSIONS", "FILES", "MEMORY"}}, []string{bold}
	for i := range f.cluster.Members {
		n := &f.cluster.Members[i]
		state, paint := "up", ""
		switch {
		case !n.Answers:
			state, paint = "DOWN", red
		case !n.UpToDate:
			state, paint = "catching up", yellow
		}
		row := []string{printable(n.Node), state, "-", "-", "-", "-", "-", "-"}
		if g := n.Figures; g != nil {
			files := "-"
			if g.Files != nil {
				files = gauge(*g.Files, g.FileLimit)
			}
			row = []string{printable(n.Node), state, numbers(g.Leads), known(g.LagRecords),
				gauge(g.DiskBytes, g.DiskLimit),
				gauge(g.Sessions, g.SessionLimit), files, size(g.Memory)}
			if !n.Answers { // nobody knows what it does now
				row[2], row[3] = "-", "-"
			}
		}
		rows, how = append(rows, row), append(how, paint)
	}
	return table(rows, how)
}

// sinks are the sinks with the epochs that they are behind: the worst shard's, and which that is.
func (f *topFrame) sinks() []topLine {
	rows, how := [][]string{{"SINK", "BEHIND", "OF SHARD", "VISIBLE P50", "P99"}}, []string{bold}
	ms := func(d *float64) string {
		if d == nil {
			return "-"
		}
		return fmt.Sprintf("%.1fs", *d/1000)
	}
	for i := range f.cluster.Sinks {
		s := &f.cluster.Sinks[i]
		worst := "-"
		for j := range f.status.Shards {
			if sh := &f.status.Shards[j]; s.Behind > 0 && sh.behind(s.Sink) == s.Behind {
				worst = fmt.Sprint(sh.Shard)
				break
			}
		}
		rows = append(rows, []string{printable(s.Sink), fmt.Sprint(s.Behind), worst, ms(s.P50), ms(s.P99)})
		how = append(how, "")
	}
	return table(rows, how)
}

// behind is how many epochs the shard has closed that a sink does not have.
func (s *topShard) behind(sink string) uint64 {
	if acked, ok := s.Acked[sink]; ok && acked < s.LastClosed {
		return s.LastClosed - acked
	}
	return 0
}

func (f *topFrame) shards() []topLine {
	rows := [][]string{{"SHARD", "LEADER", "EPOCH", "LAG", "SECONDS", "SESSIONS", "STATE"}}
	how := []string{bold}
	for i := range f.status.Shards {
		s := &f.status.Shards[i]
		state, paint := "", ""
		if s.Paused != "" {
			state, paint = "paused: "+printable(s.Paused), yellow
		}
		for _, part := range slices.Sorted(maps.Keys(s.Stopped)) {
			state, paint = "STOPPED "+printable(part)+": "+printable(s.Stopped[part]), red
		}
		if s.Leader == "" {
			state, paint = strings.TrimSuffix("NO LEADER, "+state, ", "), red
		}
		seconds := "-"
		if s.LagSeconds != nil {
			seconds = fmt.Sprintf("%.1f", *s.LagSeconds)
		}
		rows = append(rows, []string{fmt.Sprint(s.Shard), printable(cmp.Or(s.Leader, "-")), fmt.Sprint(s.LastClosed),
			known(s.LagRecords), seconds, fmt.Sprint(s.Sessions), state})
		how = append(how, paint)
	}
	return table(rows, how)
}

// partitions are all partitions, the furthest behind first, and those of which it is not known last.
func (f *topFrame) partitions() []topLine {
	type part struct {
		topPartition
		shard uint32
	}
	var all []part
	for i := range f.status.Shards {
		for _, p := range f.status.Shards[i].Partitions {
			all = append(all, part{p, f.status.Shards[i].Shard})
		}
	}
	lag := func(p *part) int64 {
		if p.Lag == nil {
			return -1
		}
		return *p.Lag
	}
	slices.SortStableFunc(all, func(a, b part) int {
		return cmp.Or(cmp.Compare(lag(&b), lag(&a)), cmp.Compare(a.Partition, b.Partition))
	})
	rows, how := [][]string{{"PARTITION", "SHARD", "NEXT OFFSET", "LAG", "STATE"}}, []string{bold}
	for _, p := range all {
		state := ""
		switch {
		case p.Unread:
			state = "not read"
		case p.Idle:
			state = "idle"
		}
		rows = append(rows, []string{fmt.Sprint(p.Partition), fmt.Sprint(p.shard), known(p.Next), known(p.Lag), state})
		how = append(how, "")
	}
	return table(rows, how)
}
