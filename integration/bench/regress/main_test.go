package main

import "testing"

func TestLoss(t *testing.T) {
	old := []float64{100, 102, 98, 101, 99, 103, 97, 100, 101, 99}
	times := func(f float64) []float64 {
		var out []float64
		for _, v := range old {
			out = append(out, v*f)
		}
		return out
	}
	noisy := []float64{50, 400, 60, 90, 300, 70, 55, 350, 90, 380} // a greater median, by chance
	for _, c := range []struct {
		name string
		now  []float64
		want bool
	}{
		{"the same", old, false}, {"a little slower", times(1.2), false}, {"much slower", times(1.3), true},
		{"faster", times(0.5), false}, {"noise", noisy, false},
	} {
		ratio, p := compare(old, c.now)
		if got := lost(ratio, p, 1.25); got != c.want {
			t.Errorf("%s: ratio %.2f, p %.3f: loss %v", c.name, ratio, p, got)
		}
	}
}

func TestLine(t *testing.T) {
	for text, want := range map[string][2]string{
		"BenchmarkFold-2          \t       7\t 150748631 ns/op\t      1570 ns/event\t102598252 B/op\t  " +
			"324227 allocs/op": {
			"Fold", "1570",
		},
		"BenchmarkEncodeBatch \t 12\t 95882106 ns/op\t 46.30 B/event\t 998.8 ns/event\t 55832 B/op": {
			"EncodeBatch", "998.8",
		},
		"ok  \tdeckle/integration/bench/stages\t38.699s": {},
	} {
		m := line.FindStringSubmatch(text)
		if m == nil && want[0] != "" || m != nil && (m[1] != want[0] || m[2] != want[1]) {
			t.Errorf("%q: %q", text, m)
		}
	}
}

// TestJudge: a benchmark of one tree alone is passed over, but two trees without a common one are a fault.
func TestJudge(t *testing.T) {
	o := options{runs: 4, most: 1.25}
	same := []float64{100, 101, 99, 100}
	slow := []float64{200, 201, 199, 200}
	losses, err := judge(o, map[string]*[2][]float64{"Both": {same, slow}, "Old": {same, nil}, "New": {nil, same}})
	if _, lost := losses["Both"]; err != nil || len(losses) != 1 || !lost {
		t.Errorf("losses %v, error %v", losses, err)
	}
	if _, err := judge(o, map[string]*[2][]float64{"Old": {same, nil}, "New": {nil, same}}); err == nil {
		t.Error("trees without a common benchmark were taken for equal")
	}
	if _, err := judge(o, map[string]*[2][]float64{"Both": {same, same[:3]}}); err == nil {
		t.Error("a benchmark that ran less often on one tree was compared")
	}
}
