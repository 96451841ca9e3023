package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"deckle/node/condition"
)

// What stands in deploy is what the tables make.
func TestFiles(t *testing.T) {
	for name, want := range files() {
		got, err := os.ReadFile(filepath.Join("../../deploy", filepath.FromSlash(name)))
		if err != nil {
			t.Error(err)
		} else if string(got) != string(want) {
			t.Errorf("deploy/%s is not what go generate ./integration/dashboards writes", name)
		}
	}
}

// headings are the anchors of the sections of a page, as GitHub makes them.
func headings(t *testing.T, page string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		anchor := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out[strings.ReplaceAll(anchor, " ", "-")] = true
	}
	return out
}

// Prometheus takes the rules; each has what whoever is woken needs, and leads to a section that is there. Every
// condition from degraded on has one.
func TestRules(t *testing.T) {
	groups, errs := rulefmt.Parse(rulesFile(alerts()), false, model.UTF8Validation, newParser(),
		slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	sections := headings(t, "../../docs/operations.md")
	severities := []string{""}
	for _, s := range condition.Severities()[1:] {
		severities = append(severities, s.String())
	}
	list := alerts()
	n := 0
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			a := &list[n]
			n++
			if r.Alert != a.name || r.Expr != a.expr() || r.Annotations["summary"] != a.summary ||
				r.Annotations["todo"] != a.todo {
				t.Errorf("%+v is read of %s", r, a.name)
			}
			section, ok := strings.CutPrefix(r.Annotations["runbook"], "docs/operations.md#")
			if !ok || !sections[section] {
				t.Errorf("%s names section %q, which docs/operations.md does not have", r.Alert, section)
			}
			if a.todo == "" || a.summary == "" || !slices.Contains(severities, a.severity) {
				t.Errorf("%s: %+v", r.Alert, a)
			}
		}
	}
	if n != len(list) {
		t.Errorf("%d rules are read, %d are made", n, len(list))
	}
	for _, s := range condition.Table() {
		if !sections[string(s.ID)] {
			t.Errorf("docs/operations.md has no section for %s", s.ID)
		}
		has := slices.ContainsFunc(list, func(a alert) bool { return a.section == string(s.ID) && a.severity == "" })
		if has != (s.Severity >= condition.Degraded) {
			t.Errorf("%s, %s, has an alert: %v", s.ID, s.Severity, has)
		}
	}
}

// Each alert fires on its series, after it has lasted as long as it must and no sooner than that, and not on those of a
// cluster that is well.
func TestAlertsFire(t *testing.T) {
	e := newEngine(t)
	start := time.Unix(0, 0)
	for _, a := range alerts() {
		lasts := time.Duration(0)
		if a.lasts != "" {
			d, err := model.ParseDuration(a.lasts)
			if err != nil {
				t.Fatal(err)
			}
			lasts = time.Duration(d)
		}
		// fires says whether the alert fires at some minute, as Prometheus does: the expression has had a series with
		// these labels at every look, for as long as it must last.
		fires := func(lines []string, until time.Duration) (bool, time.Duration) {
			m := newMemory()
			m.write(t, start, lines...)
			since := map[string]time.Duration{}
			for at := time.Duration(0); at <= until; at += time.Minute {
				now := map[string]time.Duration{}
				for _, s := range evaluate(t, e, m, a.expr(), start.Add(at)) {
					l := s.Metric.String()
					now[l] = at
					if began, ok := since[l]; ok {
						now[l] = began
					}
					if at-now[l] >= lasts {
						return true, at - now[l]
					}
				}
				since = now
			}
			return false, 0
		}
		end := lasts + 15*time.Minute
		if ok, _ := fires(a.fires, end+10*time.Minute); !ok {
			t.Errorf("%s does not fire on %q", a.name, a.fires)
		}
		if ok, _ := fires(a.well, end); ok {
			t.Errorf("%s fires on %q", a.name, a.well)
		}
	}
}

// Every metric that an expression names is one that docs/metrics.md describes, or of the process.
func TestMetricsExist(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"up": true, "process_open_fds": true, "process_max_fds": true,
		"process_resident_memory_bytes": true, "process_cpu_seconds_total": true}
	for _, m := range regexp.MustCompile("(?m)^\\| `(deckle_[a-z0-9_]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			known[m[1]+suffix] = true
		}
	}
	for name, query := range queries() {
		tree, err := newParser().ParseExpr(query)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
			if v, ok := n.(*parser.VectorSelector); ok && !known[v.Name] {
				t.Errorf("%s: %s is no metric of Deckle", name, v.Name)
			}
			return nil
		})
	}
}

// queries are all expressions, of alerts (without their comparison, so that a well cluster has a value) and panels.
func queries() map[string]string {
	out := map[string]string{}
	for _, a := range alerts() {
		out["alert "+a.name] = a.value
	}
	for _, r := range rows() {
		for _, p := range r.panels {
			for _, e := range p.exprs {
				out["panel "+p.title+" "+e.legend] = strings.ReplaceAll(e.query, "$__rate_interval", "4m")
			}
		}
	}
	return out
}

// The dashboard is a file that Grafana imports: panels of their own ids and titles that do not overlap, with units and
// data sources.
func TestDashboard(t *testing.T) {
	var d struct {
		UID    string
		Panels []struct {
			ID          int
			Type, Title string
			GridPos     struct{ X, Y, W, H int }
			FieldConfig struct{ Defaults struct{ Unit string } }
			Targets     []struct {
				RefID      string
				Expr       string
				Datasource struct{ UID string }
			}
		}
	}
	if err := json.Unmarshal(dashboardFile(), &d); err != nil || d.UID != "deckle" {
		t.Fatal(err)
	}
	ids, titles, taken := map[int]bool{}, map[string]bool{}, map[[2]int]string{}
	want := 0
	for _, r := range rows() {
		want += 1 + len(r.panels)
	}
	if len(d.Panels) != want {
		t.Errorf("%d panels, want %d", len(d.Panels), want)
	}
	for _, p := range d.Panels {
		if ids[p.ID] || titles[p.Title] || p.GridPos.X+p.GridPos.W > gridWidth {
			t.Errorf("%+v", p)
		}
		ids[p.ID], titles[p.Title] = true, true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("%s has no unit, or shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			if target.Expr == "" || target.RefID == "" || target.Datasource.UID != "${datasource}" {
				t.Errorf("%s: %+v", p.Title, target)
			}
		}
	}
}
