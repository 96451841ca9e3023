package main

import (
	"fmt"
	"strings"

	"deckle/node/condition"
)

// alert is one alert. It fires while value op, an expression and a comparison, has held for that long.
type alert struct {
	name  string
	group string
	// value is an expression that has a value wherever Deckle runs, so that a test can see that its series exist.
	value string
	op    string // what it is compared with: "== 0"
	// lasts is how long it must hold, as Prometheus writes it; "" for not at all.
	lasts    string
	severity string // one of the conditions' severities; "" if the series have one
	summary  string
	todo     string
	section  string // of docs/operations.md
	// fires are series that make it fire, and well ones that do not, in promtool's notation, one sample a minute.
	fires, well []string
}

func (a *alert) expr() string { return a.value + " " + a.op }

// alerts are those of the table of conditions, one for each id from degraded on, and those that a node cannot tell of
// itself.
func alerts() []alert {
	out := own()
	for _, s := range condition.Table() {
		if s.Severity < condition.Degraded {
			continue
		}
		series := fmt.Sprintf("deckle_condition{id=%q,severity=%q,instance=\"a\",job=\"deckle\"}", s.ID, s.Severity)
		out = append(out, alert{
			name: "Deckle" + camel(string(s.ID)), group: "deckle-conditions",
			value:   fmt.Sprintf(`sum by (id, severity) (deckle_condition{id=%q,severity!="notice"})`, s.ID),
			op:      "> 0",
			summary: s.Threshold, todo: s.Todo, section: string(s.ID),
			fires: []string{series + " 0 2x20"}, well: []string{series + " 0x20"},
		})
	}
	return out
}

// camel is an id as a part of an alert's name: "member-down" is MemberDown.
func camel(id string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(id, "-") {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

// own are the alerts about what no condition says.
func own() []alert {
	const group = "deckle"
	return []alert{
		{name: "DeckleNotScraped", group: group, value: `up{job="deckle"}`, op: "== 0", lasts: "2m",
			severity: "failing",
			summary:  "Prometheus cannot read the metrics of a node",
			todo: "Ask another node: deckle status. If that one hears it, see the rights of the scrape (Who may " +
				"ask), else start the node.",
			section: "member-down",
			fires:   []string{`up{job="deckle",instance="a"} 1 0x20`},
			well:    []string{`up{job="deckle",instance="a"} 1x20`}},
		{name: "DeckleNotReady", group: group, value: "deckle_node_ready", op: "== 0", lasts: "5m", severity: "failing",
			summary: "a node has not been ready for 5 minutes",
			todo:    "Its /readyz says for which conditions; each has a section of its own.",
			section: "who-judges-what",
			fires:   []string{`deckle_node_ready{instance="a"} 1 0x20`},
			well:    []string{`deckle_node_ready{instance="a"} 1x20`}},
		{name: "DeckleNoneMayBeLost", group: group,
			value: "min(deckle_cluster_can_lose_one and on (instance) deckle_peer_up)", op: "== 0", lasts: "5m",
			severity: "failing",
			summary:  "if one more node is lost, the cluster stands still",
			todo:     "Take no node down. deckle status says why, and which node is missing or has not caught up.",
			section:  "how-the-cluster-is",
			fires: []string{`deckle_cluster_can_lose_one{instance="a"} 1 0x20`,
				`deckle_peer_up{instance="a",peer="b"} 1x20`},
			// A single node can lose none, and nobody need be told.
			well: []string{`deckle_cluster_can_lose_one{instance="a"} 0x20`}},
		{name: "DeckleSinkSilent", group: group,
			value: "((time() - max by (sink) (deckle_sink_commit_timestamp_seconds)) and on () " +
				"(sum(rate(deckle_state_applied_events_total[10m])) > 0))",
			op: "> 600", severity: "failing", lasts: "5m",
			summary: "a sink has taken nothing for 10 minutes although events come in",
			todo:    "Look at sink-failing, sink-stopped and sink-behind of it; readers see old figures.",
			section: "sink-behind",
			fires: []string{`deckle_sink_commit_timestamp_seconds{instance="a",sink="events"} 0x40`,
				`deckle_state_applied_events_total{instance="a",shard="0"} 0+60x40`},
			well: []string{`deckle_sink_commit_timestamp_seconds{instance="a",sink="events"} 0x40`,
				`deckle_state_applied_events_total{instance="a",shard="0"} 7x40`}},
		{name: "DeckleSinkErrors", group: group,
			value: "sum by (sink, class) (increase(deckle_sink_errors_total[15m]))", op: "> 20", lasts: "5m",
			severity: "degraded",
			summary:  "attempts to write a sink keep failing, although some get through",
			todo:     "The class says where to look: the network, the disk, Kafka, or what the store answers.",
			section:  "sink-failing",
			fires:    []string{`deckle_sink_errors_total{instance="a",sink="events",class="network"} 0+3x40`},
			well:     []string{`deckle_sink_errors_total{instance="a",sink="events",class="network"} 0+1x40`}},
		{name: "DeckleLagHigh", group: group, value: "max(deckle_source_lag_seconds)", op: "> 300", lasts: "10m",
			severity: "degraded",
			summary:  "the last records that were applied are more than 5 minutes old, and more wait in Kafka",
			todo: "Look whether intake rests (intake-paused) or is only behind after an outage: deckle status shows " +
				"the lag of each node. If it grows all day, a shard's node has not enough CPU.",
			section: "lag",
			fires:   []string{`deckle_source_lag_seconds{instance="a",shard="0"} 20 400x40`},
			well:    []string{`deckle_source_lag_seconds{instance="a",shard="0"} 20x40`}},
		{name: "DeckleDiskFull24h", group: group,
			value: "predict_linear(deckle_node_disk_bytes[6h], 86400) / on (instance) " +
				`deckle_limit_bytes{limit="disk_bytes"}`,
			op: "> 1", lasts: "1h", severity: "degraded",
			summary: "at the rate of the last 6 hours the data folder reaches its budget within a day",
			todo:    "Find out which sink is behind, or raise limits.disk_bytes while there is room.",
			section: "disk-high",
			fires: []string{`deckle_node_disk_bytes{instance="a"} 0+1000x500`,
				`deckle_limit_bytes{instance="a",limit="disk_bytes"} 1000000x500`},
			well: []string{`deckle_node_disk_bytes{instance="a"} 500000x500`,
				`deckle_limit_bytes{instance="a",limit="disk_bytes"} 1000000x500`}},
		{name: "DeckleFilesHigh", group: group,
			value: `process_open_fds{job="deckle"} / process_max_fds{job="deckle"}`, op: "> 0.8", lasts: "5m",
			severity: "degraded",
			summary:  "a node has four fifths of the files open that it may",
			todo:     "Raise LimitNOFILE, or find out who opens so many connections of HTTP (connections-refused).",
			section:  "http",
			fires: []string{`process_open_fds{instance="a",job="deckle"} 90x20`,
				`process_max_fds{instance="a",job="deckle"} 100x20`},
			well: []string{`process_open_fds{instance="a",job="deckle"} 50x20`,
				`process_max_fds{instance="a",job="deckle"} 100x20`}},
		{name: "DeckleClockOff", group: group, value: "max by (peer) (abs(deckle_peer_clock_offset_seconds))",
			op: "> 2", lasts: "10m", severity: "degraded",
			summary: "the clocks of two nodes are more than 2 seconds apart",
			todo:    "See that all nodes run NTP (chronyc tracking). Nothing but the delays shown is wrong by it.",
			section: "how-the-cluster-is",
			fires:   []string{`deckle_peer_clock_offset_seconds{instance="a",peer="b"} -3x20`},
			well:    []string{`deckle_peer_clock_offset_seconds{instance="a",peer="b"} 0.1x20`}},
		{name: "DeckleVersionsDiffer", group: group, value: "count(count by (version) (deckle_build_info))", op: "> 1",
			lasts: "1d", severity: "degraded",
			summary: "for a day the nodes have had several versions",
			todo:    "Bring the upgrade to its end: deckle status shows the version of each node.",
			section: "versions-and-the-level",
			fires: []string{`deckle_build_info{instance="a",version="1"} 1x1500`,
				`deckle_build_info{instance="b",version="2"} 1x1500`},
			well: []string{`deckle_build_info{instance="a",version="1"} 1x1500`,
				`deckle_build_info{instance="b",version="1"} 1x1500`}},
	}
}

// rulesFile writes the rules as Prometheus reads them. Texts are quoted as JSON quotes them, which YAML takes.
func rulesFile(list []alert) []byte {
	var b strings.Builder
	b.WriteString("# Alert rules of Deckle, made by go generate ./integration/dashboards: change them there.\n" +
		"# The scrape's job must be called deckle. severity is one of Deckle's own: stopped waits for a\n" +
		"# person, failing is being retried, degraded works, but not as it should. runbook names a section of\n" +
		"# docs/operations.md.\ngroups:\n")
	group := ""
	for i := range list {
		a := &list[i]
		if a.group != group {
			group = a.group
			fmt.Fprintf(&b, "  - name: %s\n    rules:\n", group)
		}
		fmt.Fprintf(&b, "      - alert: %s\n        expr: %s\n", a.name, quote(a.expr()))
		if a.lasts != "" {
			fmt.Fprintf(&b, "        for: %s\n", a.lasts)
		}
		if a.severity != "" {
			fmt.Fprintf(&b, "        labels:\n          severity: %s\n", a.severity)
		}
		fmt.Fprintf(&b, "        annotations:\n          summary: %s\n          todo: %s\n          runbook: %s\n",
			quote(a.summary), quote(a.todo), quote("docs/operations.md#"+a.section))
	}
	return []byte(b.String())
}

func quote(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }
