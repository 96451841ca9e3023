package sim

import "testing"

// BenchmarkGenerator is the cost of making a record.
func BenchmarkGenerator(b *testing.B) {
	g, err := NewGenerator(Options{Seed: 1}, 0)
	if err != nil {
		b.Fatal(err)
	}
	bytes := int64(0)
	for b.Loop() {
		r, _ := g.Next()
		bytes += int64(len(r.Value))
	}
	b.ReportMetric(float64(bytes)/float64(b.N), "B/record")
}

// BenchmarkTruth is what the ground truth adds to it.
func BenchmarkTruth(b *testing.B) {
	g, err := NewGenerator(Options{Seed: 1}, 0)
	if err != nil {
		b.Fatal(err)
	}
	t, err := CreateTruth(b.TempDir() + "/truth.jsonl")
	if err != nil {
		b.Fatal(err)
	}
	t.Begin(Header{Keyed: true})
	n := int64(0)
	for b.Loop() {
		r, _ := g.Next()
		t.Sent(r)
		t.Acked(r, 0, n, r.Time.UnixMilli())
		n++
	}
}
