package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
)

// figures are those of one run, or the medians of several.
type figures struct {
	Events     int64   `json:"events"` // of the window
	CPUSeconds float64 `json:"cpu_seconds"`
	// WallSeconds is the time until the last row was visible in every sink; Deckle waits for the last sessions' grace
	// first.
	WallSeconds        float64          `json:"wall_seconds"`
	AppliedSeconds     float64          `json:"applied_seconds"` // until the last record was applied
	EventsPerCPUSecond float64          `json:"events_per_cpu_second"`
	PeakRSS            int64            `json:"peak_rss_bytes"`      // it is PSS: shared pages count once
	LogBytesPerEvent   float64          `json:"log_bytes_per_event"` // of one replica; 0 for Spark
	Equal              bool             `json:"equal"`
	Written            map[string]wrote `json:"written"` // by table, warm-up included
	Spread             *spread          `json:"events_per_cpu_second_spread,omitempty"`
}

type wrote struct {
	Rows  int64 `json:"rows"`
	Bytes int64 `json:"bytes"` // Delta: of data files; ClickHouse: before compression
}

type spread struct {
	Min float64 `json:"min"`
	Max float64 `json:"max"`
	N   int     `json:"n"`
}

// report is bench.json.
type report struct {
	Records   int64              `json:"records"` // of the backlog
	WarmUp    int64              `json:"warm_up_records"`
	BytesEach float64            `json:"bytes_per_record"`
	HeapMB    int                `json:"spark_heap_mb"`
	Spark     *figures           `json:"spark,omitempty"`
	Deckle    *figures           `json:"deckle,omitempty"`
	Raw       *figures           `json:"deckle_raw,omitempty"`
	Three     *figures           `json:"deckle3,omitempty"`
	Guarded   *figures           `json:"deckle_guarded,omitempty"`
	Guarded3  *figures           `json:"deckle3_guarded,omitempty"`
	Ratio     float64            `json:"ratio_to_spark,omitempty"`     // deckle, events per CPU second
	RatioRaw  float64            `json:"ratio_to_spark_raw,omitempty"` // deckle_raw
	Memory    map[string]float64 `json:"peak_rss_to_spark,omitempty"`
	ThreeCPU  float64            `json:"deckle3_cpu_per_event_to_deckle,omitempty"`
	// GuardedCPU is what each guarded deployment needs per event, as a ratio to the same without guard.
	GuardedCPU map[string]float64 `json:"guarded_cpu_per_event_to_plain,omitempty"`
}

func median[T int64 | float64](of []*figures, get func(*figures) T) T {
	var all []T
	for _, f := range of {
		all = append(all, get(f))
	}
	slices.Sort(all)
	return all[(len(all)-1)/2]
}

// medianOf is nil for no runs.
func medianOf(of []*figures) *figures {
	if len(of) == 0 {
		return nil
	}
	out := &figures{
		Events:             median(of, func(f *figures) int64 { return f.Events }),
		CPUSeconds:         median(of, func(f *figures) float64 { return f.CPUSeconds }),
		WallSeconds:        median(of, func(f *figures) float64 { return f.WallSeconds }),
		AppliedSeconds:     median(of, func(f *figures) float64 { return f.AppliedSeconds }),
		EventsPerCPUSecond: median(of, func(f *figures) float64 { return f.EventsPerCPUSecond }),
		PeakRSS:            median(of, func(f *figures) int64 { return f.PeakRSS }),
		LogBytesPerEvent:   median(of, func(f *figures) float64 { return f.LogBytesPerEvent }),
		Equal:              !slices.ContainsFunc(of, func(f *figures) bool { return !f.Equal }),
		Written:            of[len(of)-1].Written,
		Spread:             &spread{Min: of[0].EventsPerCPUSecond, N: len(of)},
	}
	for _, f := range of {
		out.Spread.Min = min(out.Spread.Min, f.EventsPerCPUSecond)
		out.Spread.Max = max(out.Spread.Max, f.EventsPerCPUSecond)
	}
	return out
}

// complete computes the medians and ratios.
func (r *report) complete(runs map[string][]*figures) {
	r.Spark, r.Deckle = medianOf(runs["spark"]), medianOf(runs["deckle"])
	r.Raw, r.Three = medianOf(runs["deckle_raw"]), medianOf(runs["deckle3"])
	r.Guarded, r.Guarded3 = medianOf(runs["deckle_guarded"]), medianOf(runs["deckle3_guarded"])
	if r.Deckle != nil && r.Three != nil {
		r.ThreeCPU = r.Deckle.EventsPerCPUSecond / r.Three.EventsPerCPUSecond
	}
	r.GuardedCPU = map[string]float64{}
	for name, f := range map[string][2]*figures{"deckle": {r.Deckle, r.Guarded}, "deckle3": {r.Three, r.Guarded3}} {
		if f[0] != nil && f[1] != nil {
			r.GuardedCPU[name] = f[0].EventsPerCPUSecond / f[1].EventsPerCPUSecond
		}
	}
	if r.Spark == nil {
		return
	}
	r.Memory = map[string]float64{}
	for name, f := range map[string]*figures{"deckle": r.Deckle, "deckle_raw": r.Raw, "deckle3": r.Three} {
		if f != nil {
			r.Memory[name] = float64(f.PeakRSS) / float64(r.Spark.PeakRSS)
		}
	}
	if r.Deckle != nil {
		r.Ratio = r.Deckle.EventsPerCPUSecond / r.Spark.EventsPerCPUSecond
	}
	if r.Raw != nil {
		r.RatioRaw = r.Raw.EventsPerCPUSecond / r.Spark.EventsPerCPUSecond
	}
}

type system struct {
	name string
	f    *figures
}

// systems are those that ran.
func (r *report) systems() []system {
	all := []system{{"spark", r.Spark}, {"deckle", r.Deckle}, {"deckle_raw", r.Raw}, {"deckle3", r.Three},
		{"deckle_guarded", r.Guarded}, {"deckle3_guarded", r.Guarded3}}
	return slices.DeleteFunc(all, func(s system) bool { return s.f == nil })
}

func (r *report) equal() bool {
	return !slices.ContainsFunc(r.systems(), func(s system) bool { return !s.f.Equal })
}

func (r *report) write(path string, out io.Writer) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "\tevents\tCPU s\tevents/CPU s\t(least–greatest of)\twall s\tpeak MiB\tlog B/event\tequal\t")
	for _, x := range r.systems() {
		f := x.f
		_, _ = fmt.Fprintf(t, "%s\t%d\t%.2f\t%.0f\t(%.0f–%.0f of %d)\t%.1f\t%d\t%.1f\t%v\t\n",
			x.name, f.Events, f.CPUSeconds, f.EventsPerCPUSecond,
			f.Spread.Min, f.Spread.Max, f.Spread.N, f.WallSeconds, f.PeakRSS>>20, f.LogBytesPerEvent, f.Equal)
	}
	if r.Ratio > 0 {
		_, _ = fmt.Fprintf(t, "ratio to Spark\t%.1f, with raw events %.1f\t\n", r.Ratio, r.RatioRaw)
	}
	for _, name := range slices.Sorted(maps.Keys(r.GuardedCPU)) {
		_, _ = fmt.Fprintf(t, "CPU per event of %s, guarded to plain\t%.2f\t\n", name, r.GuardedCPU[name])
	}
	_, _ = fmt.Fprintln(t, "\nwritten\ttable\trows\tMiB\t")
	for _, x := range r.systems() {
		for _, table := range slices.Sorted(maps.Keys(x.f.Written)) {
			w := x.f.Written[table]
			_, _ = fmt.Fprintf(t, "%s\t%s\t%d\t%.1f\t\n", x.name, table, w.Rows, float64(w.Bytes)/(1<<20))
		}
	}
	return t.Flush()
}
