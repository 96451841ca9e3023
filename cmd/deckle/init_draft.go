package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"deckle/node"
	"deckle/node/config"
)

// draft is what a new configuration is made of: what deckle init asks, or takes from flags.
type draft struct {
	nodes, dataDir, pipeline             string
	brokers, topic, kafkaUser            string
	kafkaTLS                             bool
	lake, endpoint, bucket, prefix       string
	clickhouse, clickhouseUser, database string
	http                                 string
	partitions                           int // of a topic that is made; 0: of one that is somebody else's
}

func (d *draft) flags(f *pflag.FlagSet) {
	f.StringVar(&d.nodes, "nodes", "a=127.0.0.1:7946", "one or three nodes: NAME=HOST:PORT,…")
	f.StringVar(&d.dataDir, "data-dir", "", "the nodes' folder (default: /var/lib/deckle; of nodes on this machine "+
		"data/NAME beside FILE)")
	f.StringVar(&d.pipeline, "pipeline", "deckle", "name of the job, for ever")
	f.StringVar(&d.brokers, "brokers", "", "of Kafka: HOST:PORT,…")
	f.StringVar(&d.topic, "topic", "web_clicks", "the topic of events")
	f.StringVar(&d.kafkaUser, "kafka-user", "", "of SASL (scram-sha-512); the password is in DECKLE_KAFKA_PASSWORD")
	f.BoolVar(&d.kafkaTLS, "kafka-tls", false, "connect to the brokers with TLS, by the system's CAs")
	f.StringVar(&d.lake, "lake", "", "folder of the Delta tables, of a single node")
	f.StringVar(&d.endpoint, "s3-endpoint", "", "of the Delta tables: http(s)://HOST:PORT")
	f.StringVar(&d.bucket, "s3-bucket", "", "of the Delta tables")
	f.StringVar(&d.prefix, "s3-prefix", "", "in the bucket")
	f.StringVar(&d.clickhouse, "clickhouse", "", "HOST:PORT of ClickHouse's native protocol; default: without it")
	f.StringVar(&d.clickhouseUser, "clickhouse-user", "default", "the user of ClickHouse")
	f.StringVar(&d.database, "clickhouse-database", "analytics", "the database of ClickHouse")
	f.StringVar(&d.http, "http-listen", "127.0.0.1:8080", "of health, metrics, API and page; of three nodes on one "+
		"machine each has the next port")
}

// ask asks for what no flag says, one question a line; an empty answer takes what stands in brackets.
func (d *draft) ask(cmd *cobra.Command, create *node.Create) error {
	in := bufio.NewReader(cmd.InOrStdin())
	cmd.SetIn(in) // what it has read ahead is for the question at the end
	partitions := ""
	for _, q := range []struct {
		flag, text string
		to         *string
		when       func() bool
	}{
		{"nodes", "Nodes, one or three, as NAME=HOST:PORT,…", &d.nodes, nil},
		{"brokers", "Kafka brokers, as HOST:PORT,…", &d.brokers, nil},
		{"kafka-user", "User of Kafka (none: without SASL)", &d.kafkaUser, nil},
		{"topic", "Topic of the events", &d.topic, nil},
		{"topic-partitions", "Make this topic if it is missing, with how many partitions (none: do not)", &partitions,
			nil},
		{"s3-endpoint", "Delta tables in S3, at http(s)://HOST:PORT (none: in a folder, or none at all)", &d.endpoint,
			func() bool { return d.lake == "" }},
		{"s3-bucket", "Bucket", &d.bucket, func() bool { return d.endpoint != "" }},
		{"s3-prefix", "Prefix in the bucket", &d.prefix, func() bool { return d.endpoint != "" }},
		{"lake", "Folder of the Delta tables (none: without them)", &d.lake, func() bool { return d.endpoint == "" }},
		{"clickhouse", "ClickHouse, at HOST:PORT of the native protocol (none: without it)", &d.clickhouse, nil},
		{"clickhouse-user", "User of ClickHouse", &d.clickhouseUser, func() bool { return d.clickhouse != "" }},
	} {
		if cmd.Flags().Changed(q.flag) || q.when != nil && !q.when() {
			continue
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s [%s]: ", q.text, cmp.Or(*q.to, "none"))
		line, err := in.ReadString('\n')
		if err != nil && (err != io.EOF || line == "") {
			return usagef("standard input has ended before the answers: give flags and --yes (see %s --help)",
				cmd.CommandPath())
		}
		*q.to = cmp.Or(strings.TrimSpace(line), *q.to)
	}
	if partitions == "" {
		return nil
	}
	n, err := strconv.Atoi(partitions)
	if err != nil || n < 1 || n > 10_000 {
		return usagef("%q is no number of partitions: give 1 to 10000", partitions)
	}
	create.TopicPartitions = n
	return nil
}

// parse returns the nodes, and refuses what no configuration can be made of.
func (d *draft) parse() (nodes []config.Node, err error) {
	for part := range strings.SplitSeq(d.nodes, ",") {
		name, address, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || name == "" || strings.ContainsAny(name, `/\`) {
			return nil, usagef("--nodes %q: give NAME=HOST:PORT, one or three, with commas between them", d.nodes)
		}
		nodes = append(nodes, config.Node{Name: name, Address: address})
	}
	switch {
	case d.brokers == "":
		return nil, usagef("--brokers is missing: HOST:PORT,… of Kafka")
	case d.lake != "" && d.endpoint != "":
		return nil, usagef("give --lake or --s3-endpoint, not both")
	case d.lake+d.endpoint+d.clickhouse == "":
		return nil, usagef("nothing to write to: give --s3-endpoint and --s3-bucket, --lake or --clickhouse")
	case (d.endpoint == "") != (d.bucket == ""):
		return nil, usagef("--s3-endpoint and --s3-bucket go together")
	}
	return nodes, nil
}

// defaultShards are those of three nodes, as package config has them.
const defaultShards = 6

// text is a YAML text in quotes: whatever is in it, it stays one value.
func text(s string) string {
	b, _ := json.Marshal(s) // of a string it cannot fail
	return string(b)
}

func texts(list string) string {
	var all []string
	for s := range strings.SplitSeq(list, ",") {
		all = append(all, text(strings.TrimSpace(s)))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// render writes the file of the node at place i. folder is where the files lie, absolute.
func (d *draft) render(nodes []config.Node, i int, folder string) []byte {
	n, here := nodes[i], true // all nodes are on this machine
	for _, o := range nodes {
		host, _, _ := net.SplitHostPort(o.Address)
		ip := net.ParseIP(host)
		here = here && (host == "localhost" || ip != nil && ip.IsLoopback())
	}
	dataDir := cmp.Or(d.dataDir, "/var/lib/deckle")
	switch {
	case here && len(nodes) > 1:
		dataDir = filepath.Join(cmp.Or(d.dataDir, filepath.Join(folder, "data")), n.Name)
	case here && d.dataDir == "":
		dataDir = filepath.Join(folder, "data", n.Name)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Node %s. Written by deckle init; deckle.example.yaml shows every key,\n"+
		"# docs/configuration.md says what each means.\nnode: %s\ndata_dir: %s\n\n"+
		"cluster:\n  pipeline: %s\n  nodes:\n", oneLine(n.Name), text(n.Name),
		text(dataDir), text(d.pipeline))
	for _, o := range nodes {
		fmt.Fprintf(&b, "    - {name: %s, address: %s}\n", text(o.Name), text(o.Address))
	}
	if len(nodes) > 1 && 0 < d.partitions && d.partitions < defaultShards {
		fmt.Fprintf(&b, "  shards: %d # as many as the topic has partitions\n", d.partitions)
	}
	if !here && len(nodes) > 1 {
		at := func(name string) string { return text(filepath.Join(folder, "pki", name)) }
		fmt.Fprintf(&b, "  tls: # where they are on this node's machine\n    ca: %s\n    cert: %s\n    key: %s\n",
			at("ca.pem"),
			at(n.Name+".pem"), at(n.Name+"-key.pem"))
	}
	fmt.Fprintf(&b, "\nkafka:\n  brokers: %s\n  topic: %s\n", texts(d.brokers), text(d.topic))
	if d.kafkaTLS {
		b.WriteString("  tls: {}\n")
	}
	if d.kafkaUser != "" {
		fmt.Fprintf(&b, "  sasl: {mechanism: scram-sha-512, user: %s, password: {env: DECKLE_KAFKA_PASSWORD}}\n",
			text(d.kafkaUser))
	}
	switch {
	case d.lake != "":
		lake, err := filepath.Abs(d.lake)
		if err != nil {
			lake = d.lake
		}
		fmt.Fprintf(&b, "\ndelta:\n  path: %s\n", text(lake))
	case d.endpoint != "":
		fmt.Fprintf(&b, "\ndelta:\n  s3:\n    endpoint: %s\n    bucket: %s\n", text(d.endpoint), text(d.bucket))
		if d.prefix != "" {
			fmt.Fprintf(&b, "    prefix: %s\n", text(d.prefix))
		}
		b.WriteString("    access_key: {env: DECKLE_S3_ACCESS_KEY}\n    secret_key: {env: DECKLE_S3_SECRET_KEY}\n")
	}
	if d.clickhouse != "" {
		fmt.Fprintf(&b, "\nclickhouse:\n  address: %s\n  database: %s\n  user: %s\n",
			text(d.clickhouse), text(d.database),
			text(d.clickhouseUser))
		if os.Getenv("DECKLE_CLICKHOUSE_PASSWORD") != "" || d.clickhouseUser != "default" {
			b.WriteString("  password: {env: DECKLE_CLICKHOUSE_PASSWORD}\n")
		}
	}
	listen := d.http
	if host, port, err := net.SplitHostPort(d.http); err == nil && here {
		if p, err := strconv.Atoi(port); err == nil && p > 0 {
			listen = net.JoinHostPort(host, strconv.Itoa(p+i))
		}
	}
	fmt.Fprintf(&b, "\nhttp:\n  listen: %s\n", text(listen))
	return []byte(b.String())
}
