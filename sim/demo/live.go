package demo

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"deckle/node/status"
	"deckle/sim"
	"deckle/state"
)

// live prints figures while the demo runs: on a terminal a block that is refreshed each second, elsewhere a line every
// five seconds and at each change of phase.
type live struct {
	w   io.Writer
	tty bool

	mu    sync.Mutex
	lines int // of the block that stands on the terminal
}

// say prints a line that stays.
func (l *live) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	fmt.Fprintf(l.w, format+"\n", args...)
}

// block replaces the block.
func (l *live) block(lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	fmt.Fprintln(l.w, strings.Join(lines, "\n"))
	l.lines = len(lines)
}

func (l *live) clear() {
	if l.lines > 0 {
		// to the first column (where a typed ^C stands), up by the lines of the block, and clear the rest
		fmt.Fprintf(l.w, "\r\x1b[%dA\x1b[J", l.lines)
		l.lines = 0
	}
}

// sample is what is shown at one moment.
type sample struct {
	at      time.Time
	elapsed time.Duration
	of      time.Duration // 0: no end
	phase   string
	sent    sim.Stats
	status  status.Node
}

// totals sums what the shards say.
type totals struct {
	applied, duplicates, dead, nulls, open, excluded int64
	lag                                              int64
	lagSeconds                                       float64
	closed, behind                                   uint64
	leaders                                          map[string]int
	visible                                          map[string]status.Latency
}

func totalsOf(st *status.Node) totals {
	t := totals{leaders: map[string]int{}, visible: map[string]status.Latency{}}
	for i := range st.Shards {
		s := &st.Shards[i]
		v := &s.State
		t.applied += v.Applied
		t.duplicates += v.Duplicates
		t.nulls += v.Nulls
		for _, n := range v.DeadLetters {
			t.dead += n
		}
		t.excluded += v.RuleCounts.LeftOut()
		t.open += v.OpenStatus
		if l := s.Lag.Records; l != nil {
			t.lag += *l
		}
		if l := s.Lag.Seconds; l != nil {
			t.lagSeconds = max(t.lagSeconds, *l)
		}
		t.closed += v.LastClosed
		for _, id := range v.Config.Sinks {
			if p := v.Sinks[id]; v.LastClosed > p.Acked {
				t.behind = max(t.behind, v.LastClosed-p.Acked)
			}
		}
		if s.Leader != "" {
			t.leaders[s.Leader]++
		}
		for sink, l := range s.Visible {
			t.visible[sink] = worst(t.visible[sink], l)
		}
	}
	return t
}

// worst joins the latencies of two shards: percentiles cannot be added, so the greater one stands for both.
func worst(a, b status.Latency) status.Latency {
	if b.Count == 0 {
		return a
	}
	return status.Latency{P50: max(a.P50, b.P50), P99: max(a.P99, b.P99), Max: max(a.Max, b.Max), Count: a.Count +
		b.Count}
}

// watch shows a sample each second until ctx ends.
func (l *live) watch(ctx context.Context, take func() sample) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := take()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := take()
		if l.tty {
			l.block(lines(&last, &now))
		} else if n%5 == 0 {
			l.say("%s", line(&last, &now))
		}
		if l.tty || n%5 == 0 {
			last = now
		}
	}
}

func rates(last, now *sample) (produced, applied float64) {
	d := now.at.Sub(last.at).Seconds()
	if d <= 0 {
		return 0, 0
	}
	a, b := totalsOf(&last.status), totalsOf(&now.status)
	done := func(t totals) int64 { return t.applied + t.duplicates + t.dead + t.nulls + t.excluded }
	return float64(now.sent.Acked-last.sent.Acked) / d, float64(done(b)-done(a)) / d
}

func line(last, now *sample) string {
	t := totalsOf(&now.status)
	produced, applied := rates(last, now)
	return fmt.Sprintf("%s %s: %s records (%s/s), applied %s/s, lag %s, %s open sessions, %d epochs, leaders %s, "+
		"visible p99 %s",
		clockText(now.elapsed), now.phase, count(now.sent.Acked), count(int64(produced)), count(int64(applied)),
		count(t.lag),
		count(t.open), t.closed, leaders(t.leaders), millis(t.visible[state.SinkEvents.String()]))
}

func lines(last, now *sample) []string {
	t := totalsOf(&now.status)
	produced, applied := rates(last, now)
	when := clockText(now.elapsed)
	if now.of > 0 {
		when += " of " + clockText(now.of)
	}
	out := []string{
		fmt.Sprintf("%-10s %s", now.phase, when),
		fmt.Sprintf("  records    produced %12s   %8s/s     applied %12s   %8s/s", count(now.sent.Acked),
			count(int64(produced)), count(t.applied), count(int64(applied))),
		fmt.Sprintf("  behind     %s records, %.1f s; %d epochs unflushed of %d", count(t.lag), t.lagSeconds, t.behind,
			t.closed),
		fmt.Sprintf("  sessions   %s open; %s duplicates and %s dead letters set aside", count(t.open),
			count(t.duplicates), count(t.dead)),
		fmt.Sprintf("  leaders    %s", leaders(t.leaders)),
	}
	for id := range state.NumSinks {
		if l, ok := t.visible[id.String()]; ok && l.Count > 0 {
			out = append(out, fmt.Sprintf("  visible    %-10s p50 %s, p99 %s", id, duration(l.P50), duration(l.P99)))
		}
	}
	return out
}

func leaders(m map[string]int) string {
	names := make([]string, 0, len(m))
	for n, k := range m {
		names = append(names, fmt.Sprintf("%s:%d", n, k))
	}
	slices.Sort(names)
	return cmp.Or(strings.Join(names, " "), "none")
}

func millis(l status.Latency) string {
	if l.Count == 0 {
		return "–"
	}
	return duration(l.P99)
}

func duration(ms float64) string {
	if ms < 1000 {
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f s", ms/1000)
}

// count writes 1234567 as 1,234,567.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}
