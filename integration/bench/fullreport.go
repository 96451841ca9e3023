package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// fullReport is bench-full.json. Parts that were not requested, or that failed, are missing.
type fullReport struct {
	CPUs     int               `json:"cpus"`
	Failed   map[string]string `json:"failed"` // why, by part
	Latency  []*latencyFigures `json:"latency,omitempty"`
	Sessions []*openFigures    `json:"sessions,omitempty"`
	Commits  []*commitFigures  `json:"commits,omitempty"`
	Soak     *soakFigures      `json:"soak,omitempty"`
	Late     *lateFigures      `json:"late,omitempty"`
	Recovery *recoveryFigures  `json:"recovery,omitempty"`
	Outages  []*outageFigures  `json:"outage,omitempty"`
	Big      *bigFigures       `json:"big,omitempty"`
}

func (r *fullReport) write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// markdown renders the tables of docs/performance.md.
func (r *fullReport) markdown() string {
	var b strings.Builder
	table := func(head string) {
		fmt.Fprintf(&b, "\n| %s |\n|%s\n", head, strings.Repeat("---|", strings.Count(head, " | ")+1))
	}
	row := func(format string, args ...any) { fmt.Fprintf(&b, "| "+format+" |\n", args...) }
	mib := func(n int64) int64 { return n >> 20 }
	if len(r.Latency) > 0 {
		table("flush interval | events/s asked for and applied | behind at the end | " +
			"Delta `events`: p50, p99, max, s | ClickHouse: p50, p99, max, s | CPU, µs per event | load")
		for _, f := range r.Latency {
			row("%g s | %.0f, %.0f | %d | %.2f, **%.2f**, %.2f | %.2f, **%.2f**, %.2f | %.1f | %.1f", f.Interval,
				f.Window.Asked, f.Window.Applied, f.Window.Behind, f.Events.P50, f.Events.P99, f.Events.Max,
				f.ClickHouse.P50, f.ClickHouse.P99, f.ClickHouse.Max, f.Window.Micros, f.Window.MachineRan)
		}
	}
	if len(r.Sessions) > 0 {
		table("idle open sessions | events/s applied | CPU, µs per event | ÷ the first | " +
			"memory (PSS), median and peak, MiB | sessions in memory; by the node's estimate, MiB | " +
			"data folder, MiB | load")
		for _, f := range r.Sessions {
			row("%d | %.0f | %.1f | **%.2f** | %d, %d | %d; %d | %d | %.1f", f.Idle,
				f.Window.Applied, f.Window.Micros, f.Window.Micros/r.Sessions[0].Window.Micros,
				mib(f.Window.Median), mib(f.Window.Peak), f.Resident, mib(f.Estimate), mib(f.DiskBytes),
				f.Window.MachineRan)
		}
	}
	if len(r.Commits) > 0 {
		table("commits of Delta `events` | events/s | CPU, µs per event | ÷ the first | ms per commit | " +
			"ms per checkpoint | ms per plan | load")
		for _, f := range r.Commits {
			row("%d–%d | %.0f | %.1f | **%.2f** | %.1f | %.1f | %.1f | %.1f", f.From, f.To,
				f.Window.Applied, f.Window.Micros, f.Window.Micros/r.Commits[0].Window.Micros,
				f.Commit*1e3, f.Checkpoint*1e3, f.Flush*1e3, f.Window.MachineRan)
		}
	}
	if f := r.Soak; f != nil {
		table("soak | events/s | memory (PSS) of all nodes after the first minute, at the end, MiB | ratio | " +
			"each minute's median, MiB | load")
		var minutes []string
		for _, m := range f.Minutes {
			minutes = append(minutes, fmt.Sprint(mib(m)))
		}
		row("%.0f s | %.0f | %d, %d | **%.2f** | %s | %.1f", f.Window.Seconds, f.Window.Applied,
			mib(f.First), mib(f.Last), f.Ratio, strings.Join(minutes, " "), f.Window.MachineRan)
	}
	if f := r.Late; f != nil {
		table("1 % late | events/s | late events | sessions inserted, MiB | rewritten, MiB | commits that revise | " +
			"rewritten, bytes per event | p99 Delta `events`, ClickHouse, s | load")
		row("%.0f s | %.0f | %d | %d | %d | %d | %.0f | %.2f, %.2f | %.1f", f.Window.Seconds, f.Window.Applied, f.Late,
			mib(f.Inserted), mib(f.Rewritten), f.Passes, f.PerEvent, f.Events.P99, f.ClickHouse.P99,
			f.Window.MachineRan)
	}
	if f := r.Big; f != nil {
		table("bytes of each large event | other events/s | Delta `events`: p50, p99, max, s | " +
			"ClickHouse: p50, p99, max, s | VmHWM, MiB | load")
		for _, b := range f.Runs {
			row("%d | %.0f | %.2f, **%.2f**, %.2f | %.2f, **%.2f**, %.2f | %d | %.1f", b.Bytes, b.Window.Rate,
				b.Events.P50, b.Events.P99, b.Events.Max, b.ClickHouse.P50, b.ClickHouse.P99, b.ClickHouse.Max,
				mib(b.Peak), b.Window.MachineRan)
		}
	}
	if f := r.Recovery; f != nil {
		table("state, MiB | data folder, MiB | records in it | ready after, s | records that had arrived meanwhile | " +
			"all applied after, s | memory then, MiB")
		row("%d | %d | %d | **%.2f** | %d | %.2f | %d", mib(f.State), mib(f.DiskBytes), f.Events, f.Ready, f.Waiting,
			f.Applied, mib(f.PSS))
	}
	if len(r.Outages) > 0 {
		table("down | for, s | events/s | disk before, after, MiB | bytes per event | GiB per hour, extrapolated | " +
			"caught up after, s")
		for _, f := range r.Outages {
			down := f.Down
			if down == "" {
				down = "nothing"
			}
			row("%s | %.0f | %.0f | %d, %d | %.0f | **%.2f** | %.1f", down, f.Seconds, f.Rate,
				mib(f.Before), mib(f.After), f.PerEvent, f.Hour/(1<<30), f.CatchUp)
		}
	}
	return b.String()
}
