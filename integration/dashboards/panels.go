package main

// row is a row of the dashboard, and its panels.
type row struct {
	title  string
	panels []panel
}

// panel shows expressions over time, or the last value of one (stat).
type panel struct {
	title, about string
	stat         bool
	unit         string // of Grafana: s, bytes, ops, percentunit, short, dateTimeFromNow
	// last is the threshold from which a stat is red; nil for none. Below 1 is red with redBelow.
	redFrom, redBelow *float64
	exprs             []expr
}

// expr is an expression, and how its series are called.
type expr struct{ query, legend string }

// rows is the dashboard. Every expression has a value over a scrape of a running cluster: a test evaluates each.
func rows() []row {
	one, zero := 1.0, 1e-9
	return []row{
		{"How the cluster is", []panel{
			{title: "Nodes ready", about: "Nodes whose /readyz says 200, of those that are scraped.", stat: true,
				unit: "short", redBelow: &one, exprs: []expr{{"sum(deckle_node_ready)", ""}}},
			{title: "One more may be lost", about: "1: every shard goes on without any one more node.", stat: true,
				unit: "short", redBelow: &one, exprs: []expr{{"min(deckle_cluster_can_lose_one)", ""}}},
			{title: "Stopped", about: "Subjects that wait for a person.", stat: true, unit: "short", redFrom: &zero,
				exprs: []expr{{`sum(deckle_condition{severity="stopped"})`, ""}}},
			{title: "Failing", about: "Subjects that are being retried.", stat: true, unit: "short", redFrom: &zero,
				exprs: []expr{{`sum(deckle_condition{severity="failing"})`, ""}}},
			{title: "Degraded", about: "Subjects that work, but not as they should.", stat: true, unit: "short",
				exprs: []expr{{`sum(deckle_condition{severity="degraded"})`, ""}}},
			{title: "Lag", about: "Committed records in Kafka that are not applied yet.", stat: true, unit: "short",
				exprs: []expr{{"sum(deckle_source_lag_records)", ""}}},
			{title: "Conditions", about: "Subjects by id, of all nodes; docs/operations.md has a section for each.",
				unit:  "short",
				exprs: []expr{{`sum by (id, severity) (deckle_condition)`, "{{id}} {{severity}}"}}},
			{title: "Other nodes as each node hears them", about: "1: it has answered the last question.",
				unit:  "short",
				exprs: []expr{{"deckle_peer_up", "{{instance}} hears {{peer}}"}}},
		}},
		{"Intake", []panel{
			{title: "Records read", about: "By the leaders, of Kafka.", unit: "ops",
				exprs: []expr{{"sum by (instance) (rate(deckle_source_records_total[$__rate_interval]))",
					"{{instance}}"}}},
			{title: "Lag in records", about: "By shard, as its leader measures it.", unit: "short",
				exprs: []expr{{"sum by (shard) (deckle_source_lag_records)", "shard {{shard}}"}}},
			{title: "Dead letters", about: "Records that could not be used, by reason.", unit: "ops",
				exprs: []expr{{"sum by (reason) (max by (shard, reason) " +
					"(rate(deckle_state_dead_letters_total[$__rate_interval]))) or vector(0)",
					"{{reason}}"}}},
			{title: "Duplicates", about: "Events that had been counted before.", unit: "ops",
				exprs: []expr{{"sum(max by (shard) (rate(deckle_state_duplicates_total[$__rate_interval])))",
					"duplicates"}}},
			{title: "Sessions", about: "Open, and live in the state.", unit: "short", exprs: []expr{
				{"sum(max by (shard) (deckle_state_open_sessions))", "open"},
				{"sum(max by (shard) (deckle_state_live_sessions))", "live"}}},
			{title: "Intake rests", about: "By reason; 1 while it does.", unit: "short",
				exprs: []expr{{"max by (reason) (deckle_shard_paused)", "{{reason}}"}}},
		}},
		{"Sinks", []panel{
			{title: "From Kafka to the sink, p99", about: "From a record's Kafka timestamp to its visibility.",
				unit: "s",
				exprs: []expr{{"histogram_quantile(0.99, sum by (sink, le) " +
					"(rate(deckle_sink_visible_seconds_bucket[$__rate_interval])))", "{{sink}}"}}},
			{title: "Epochs behind", about: "Closed epochs that a sink does not have yet; of the last shard.",
				unit:  "short",
				exprs: []expr{{"max by (sink) (deckle_sink_behind_epochs)", "{{sink}}"}}},
			{title: "Since the last commit", about: "Of any shard.", unit: "s",
				exprs: []expr{{"time() - max by (sink) (deckle_sink_commit_timestamp_seconds)", "{{sink}}"}}},
			{title: "Time of a flush, p99", about: "One successful write of a plan.", unit: "s",
				exprs: []expr{{"histogram_quantile(0.99, sum by (sink, le) " +
					"(rate(deckle_sink_flush_seconds_bucket[$__rate_interval])))", "{{sink}}"}}},
			{title: "Failed attempts", about: "By sink and class.", unit: "ops",
				exprs: []expr{{"sum by (sink, class) (rate(deckle_sink_errors_total[$__rate_interval]))",
					"{{sink}} {{class}}"}}},
			{title: "Delta: rows and commits", about: "Committed, replaced rows included.", unit: "ops", exprs: []expr{
				{"sum by (table) (rate(deckle_delta_rows_total[$__rate_interval]))", "{{table}} rows"},
				{"sum by (table) (rate(deckle_delta_commits_total[$__rate_interval]))", "{{table}} commits"}}},
			{title: "ClickHouse: rows", about: "Inserted, repeats included.", unit: "ops",
				exprs: []expr{{"sum by (table) (rate(deckle_clickhouse_rows_total[$__rate_interval]))", "{{table}}"}}},
			{title: "ClickHouse: errors", about: "By the server's code, or network, timeout, cancelled.", unit: "ops",
				exprs: []expr{{"sum by (code) (rate(deckle_clickhouse_errors_total[$__rate_interval])) or vector(0)",
					"{{code}}"}}},
		}},
		{"Nodes", []panel{
			{title: "Data folder of its budget", about: "Intake pauses at 100 %.", unit: "percentunit",
				exprs: []expr{{`deckle_node_disk_bytes / on (instance) deckle_limit_bytes{limit="disk_bytes"}`,
					"{{instance}}"}}},
			{title: "Free on its file system", about: "Intake pauses at 1 GiB, or 5 %.", unit: "bytes",
				exprs: []expr{{"deckle_node_disk_free_bytes", "{{instance}}"}}},
			{title: "Sessions in memory of their budget", about: "Intake pauses at 200 %.", unit: "percentunit",
				exprs: []expr{{"sum by (instance) (deckle_state_memory_bytes) / on (instance) " +
					`deckle_limit_bytes{limit="session_memory_bytes"}`, "{{instance}}"}}},
			{title: "Memory of the process", about: "Resident.", unit: "bytes",
				exprs: []expr{{`process_resident_memory_bytes{job="deckle"}`, "{{instance}}"}}},
			{title: "CPU", about: "Cores in use.", unit: "short",
				exprs: []expr{{`rate(process_cpu_seconds_total{job="deckle"}[$__rate_interval])`, "{{instance}}"}}},
			{title: "Open files of their limit", about: "", unit: "percentunit",
				exprs: []expr{{`process_open_fds{job="deckle"} / process_max_fds{job="deckle"}`, "{{instance}}"}}},
			{title: "Clocks", about: "Of another node minus that of the node that asks.", unit: "s",
				exprs: []expr{{"deckle_peer_clock_offset_seconds", "{{instance}} to {{peer}}"}}},
			{title: "Versions", about: "Nodes by version.", unit: "short",
				exprs: []expr{{"count by (version) (deckle_build_info)", "{{version}}"}}},
		}},
		{"Replication", []panel{
			{title: "Shards led", about: "By node.", unit: "short",
				exprs: []expr{{"sum by (instance) (deckle_shard_leader)", "{{instance}}"}}},
			{title: "Leaderships won and lost", about: "More than a few a day: a node or the network is not steady.",
				unit: "short", exprs: []expr{{"sum by (instance) (increase(deckle_raft_leadership_changes_total[1h]))",
					"{{instance}}"}}},
			{title: "Time of an fsync, p99", about: "Of the log.", unit: "s",
				exprs: []expr{{"histogram_quantile(0.99, sum by (instance, le) " +
					"(rate(deckle_wal_fsync_seconds_bucket[$__rate_interval])))", "{{instance}}"}}},
			{title: "From proposal to result, p99", about: "Of an entry, a quorum's fsync included.", unit: "s",
				exprs: []expr{{"histogram_quantile(0.99, sum by (instance, le) " +
					"(rate(deckle_shard_commit_seconds_bucket[$__rate_interval])))", "{{instance}}"}}},
			{title: "HTTP answers", about: "By status.", unit: "ops",
				exprs: []expr{{"sum by (code) (rate(deckle_http_requests_total[$__rate_interval]))", "{{code}}"}}},
			{title: "HTTP refused", about: "By why.", unit: "ops",
				exprs: []expr{{"sum by (why) (rate(deckle_http_refused_total[$__rate_interval]))", "{{why}}"}}},
		}},
	}
}
