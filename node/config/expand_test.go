package config

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

const goodFile = `
node: ${NODE:-a}
data_dir: /d
cluster: {nodes: [{name: a, address: "127.0.0.1:1"}]}
kafka: {brokers: ["${BROKER}:9092"], topic: "$${x}$", idle_after: "${IDLE:-40s}"}
limits: {disk_bytes: "${DISK}", in_flight_entries: "${ENTRIES:-7}"}
delta: {path: /l, shared: "${SHARED:-true}", events: "${EVENTS:-false}"}
clickhouse: {address: "c:9000", password: {env: PW}}
`

func source(text string, static bool, set ...string) Source {
	return Source{Path: "deckle.yaml", ReadFile: testFiles(text), Set: set, Static: static,
		Env: func(name string) (string, bool) {
			v, ok := map[string]string{"BROKER": "k", "DISK": "2GiB", "PW": "hunter2", "BLANK": ""}[name]
			return v, ok
		}}
}

// Variables stand in texts, and are read by the type of their key; $$ is a $, and any other $ stays.
func TestVariables(t *testing.T) {
	c, err := source(strings.Replace(goodFile, `"$${x}$"`, "a", 1), false).Load()
	if err != nil {
		t.Fatal(err)
	}
	if c.Node != "a" || c.Kafka.Brokers[0] != "k:9092" || c.Kafka.IdleAfter != 40*time.Second ||
		c.Limits.DiskBytes != 2<<30 || c.Limits.InFlightEntries != 7 || !c.Delta.Shared || *c.Delta.Events {
		t.Errorf("%+v", c.Config)
	}
	for text, want := range map[string]string{
		"a":                 "a",
		"$":                 "$",
		"$a":                "$a",
		"$${BROKER}":        "${BROKER}",
		"$$$${BROKER}":      "$${BROKER}",
		"$$${BROKER}":       "$k",
		"${BROKER}${NO:-}x": "kx",
		"${BLANK:-y}":       "y",
		"${NO:-a:-b}":       "a:-b",
		"${NO}":             "unset NO",
		"${BLANK}":          "unset BLANK",
		"${":                "is no variable",
		"${1A}":             "is no variable",
		"${A-b}":            "is no variable",
		"${}":               "is no variable",
	} {
		out, _, unset, err := expand(text, source("", false).Env)
		switch {
		case err != nil:
			out = err.Error()
		case len(unset) > 0:
			out = "unset " + unset[0]
		}
		if out != want && (err == nil || !strings.Contains(out, want)) {
			t.Errorf("%s: %q, want %q", text, out, want)
		}
	}
}

// What is wrong with a value that came from a variable is told at its key, and a name of a key has no variables.
func TestVariableProblems(t *testing.T) {
	for text, want := range map[string]string{
		`flush: {interval: "${BROKER}"}`:    `deckle.yaml:9:9: flush.interval: "k" is not a duration`,
		`flush: {max_events: "${BROKER}"}`:  `flush.max_events: must be a whole number, not "k"`,
		`flush: {max_events: "${NO}"}`:      `flush.max_events: the environment variable NO is not set: export it`,
		`flush: {max_events: "${NO:-0}"}`:   `flush.max_events: must not be 0`,
		`limits: {disk_bytes: "${BROKER}"}`: `"k" is not a size`,
		`log: {level: "${BROKER}"}`:         `log.level: "k" is not known`,
		`log: {level: "${NO:-}"}`:           `log.level: is empty`,
		`http: {insecure: "${BROKER}"}`:     `http.insecure: must be true or false, not "k"`,
		`http: {hosts: "${BROKER}"}`:        `http.hosts: must be a list, not "${BROKER}"`,
		`"${BROKER}": 1`:                    `unknown key`,
		`log: {level: "${BROKER"}`:          `is no variable`,
	} {
		good := strings.Replace(strings.Replace(goodFile, `"$${x}$"`, "a", 1),
			`limits: {disk_bytes: "${DISK}", in_flight_entries: "${ENTRIES:-7}"}`, "", 1)
		_, err := source(good+text, false).Load()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// A secret takes no variable's value, but its file may be named by one.
func TestVariablesAndSecrets(t *testing.T) {
	good := strings.Replace(goodFile, `"$${x}$"`, "a", 1)
	if _, err := source(strings.Replace(good, "{env: PW}", `"${PW}"`, 1), false).Load(); err == nil ||
		!strings.Contains(err.Error(), "a secret does not belong in this file") ||
		strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	c, err := source(strings.Replace(good, "{env: PW}", `{file: "${DIR:-/run}/secret"}`, 1), false).Load()
	if err != nil || c.ClickHouse.Password.Value() != "from-file" {
		t.Errorf("%v", err)
	}
}

// Static takes what is not set as present, says so, and still judges everything else.
func TestStatic(t *testing.T) {
	text := strings.NewReplacer(`"$${x}$"`, "a", "${NODE:-a}", "${NODE}", "{env: PW}", "{file: /no/file}", "/l,",
		`"${LAKE}",`, `"${ENTRIES:-7}"`, `"${ENTRIES}"`).Replace(goodFile)
	if _, err := source(text, false).Load(); err == nil {
		t.Fatal("loaded")
	}
	c, err := source(text, true).Load()
	if err != nil {
		t.Fatal(err)
	}
	want := []Assumed{{Key: "node", Name: "NODE"}, {Key: "limits.in_flight_entries", Name: "ENTRIES"},
		{Key: "delta.path", Name: "LAKE"}, {Key: "clickhouse.password", File: "/no/file"}}
	if !reflect.DeepEqual(c.Assumed, want) {
		t.Errorf("%+v", c.Assumed)
	}
	if _, err := source(text+"flush: {interval: 10}", true).Load(); err == nil ||
		!strings.Contains(err.Error(), "flush.interval") || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("%v", err)
	}
}

// --set goes over the file, the last one wins, and what is wrong with one is told as such.
func TestAssign(t *testing.T) {
	good := strings.Replace(goodFile, `"$${x}$"`, "[1]", 1) // which the assignment mends
	c, err := source(good, false, "kafka.topic=x", "kafka.topic=7", "kafka.brokers=[a:1, b:2]", "flush.interval=3s",
		"cluster.nodes[0].address=127.0.0.1:2", "delta.events=true", "delta.path=",
		"delta.s3={endpoint: 'http://s:1', bucket: lake}", "delta.shared=false", "limits.disk_bytes=1GiB",
		"kafka.tls.ca=/ca", "clickhouse.password.file=/run/secret", "clickhouse.password.env=", "log.level=a=b",
		"log.level=warn").Load()
	if err != nil {
		t.Fatal(err)
	}
	if c.Kafka.Topic != "7" || len(c.Kafka.Brokers) != 2 || c.Flush.Interval != 3*time.Second ||
		c.Cluster.Nodes[0].Address != "127.0.0.1:2" || !*c.Delta.Events || c.Delta.S3.Bucket != "lake" ||
		c.Limits.DiskBytes != 1<<30 || c.Kafka.TLS.CA != "/ca" || c.ClickHouse.Password.Value() != "from-file" {
		t.Errorf("%+v", c.Config)
	}
	for set, want := range map[string]string{
		"kafka.topic":                  "--set: --set: must be KEY=VALUE",
		"kafka.topik=x":                "--set: kafka.topik: unknown key; did you mean kafka.topic?",
		"flush.interval=10":            `--set: flush.interval: "10" is not a duration`,
		"flush.max_events=0":           "--set: flush.max_events: must not be 0",
		"flush.max_events=many":        `--set: flush.max_events: must be a whole number, not "many"`,
		"clickhouse.password=hunter2":  "--set: clickhouse.password: a secret does not belong in a command line",
		"clickhouse.password=[hunter2": "--set: clickhouse.password: a secret does not belong in a command line",
		"clickhouse.password={hunter2": "--set: clickhouse.password: is no YAML",
		"cluster.nodes[3].name=x":      "cluster.nodes has 1 elements",
		"cluster.nodes[x].name=x":      "is no element of a list",
		"node.x=1":                     "node has no keys in it",
		"kafka.brokers=a:1":            "kafka.brokers: must be a list",
		"kafka.brokers=":               "--set: kafka.brokers: has no value",
		"log.level=loud":               `--set: log.level: "loud" is not known`,
	} {
		_, err := source(strings.Replace(goodFile, `"$${x}$"`, "a", 1), false, set).Load()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", set, err, want)
		}
	}
}

// What is shown is a file that says the same, has no secret, and tells where each value comes from.
func TestShow(t *testing.T) {
	text := strings.Replace(goodFile, `"$${x}$"`, "a", 1) + `
rules: {exclude: [{name: "b$${}", field: a, equal: ["7", "no", "x y", "ü\"\n#"]}, {name: c, field: d, suffix: [e]}]}
http: {listen: "127.0.0.1:1"}
`
	c, err := source(text, false, "log.level=warn").Load()
	if err != nil {
		t.Fatal(err)
	}
	shown := ShowYAML(c.Values())
	for _, want := range []string{"# deckle.yaml:2 with ${NODE}\n", "level: warn", "# --set\n", "# default\n",
		"password: {env: PW}", "disk_bytes: 2GiB"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(shown, "hunter2") {
		t.Errorf("a secret shows")
	}
	again, err := source(shown, false).Load()
	if err != nil {
		t.Fatalf("%v\n%s", err, shown)
	}
	if !reflect.DeepEqual(c.Config, again.Config) {
		t.Errorf("%+v\n%+v\n%s", c.Config, again.Config, shown)
	}
	if d := Diff(c.Values(), again.Values()); len(d) != 0 {
		t.Errorf("%+v", d)
	}
	other, err := source(text, false, "kafka.topic=b", "delta.path=", "delta.s3={endpoint: 'http://s:1', bucket: lake}",
		"delta.shared=false").Load()
	if err != nil {
		t.Fatal(err)
	}
	if d := Diff(c.Values(), other.Values()); len(d) < 4 || d[0] != (Change{"kafka.topic", "a", "b"}) {
		t.Errorf("%+v", d)
	}
}
