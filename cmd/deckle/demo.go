package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"deckle/node/config"
	"deckle/sim"
	"deckle/sim/demo"
)

// services are the flags that put a real service in the place of an embedded one. Secrets come from the environment.
type services struct {
	s3Endpoint, s3Bucket, s3Prefix, s3Region, s3CA string
	clickhouse, clickhouseDB, clickhouseUser       string
}

func (s *services) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.s3Endpoint, "s3-endpoint", "", "S3-compatible store, https://host:port or http://host:port; "+
		"credentials from DECKLE_S3_ACCESS_KEY and DECKLE_S3_SECRET_KEY")
	f.StringVar(&s.s3Bucket, "s3-bucket", "", "bucket of the store; it must exist")
	f.StringVar(&s.s3Prefix, "s3-prefix", "", "folder in the bucket")
	f.StringVar(&s.s3Region, "s3-region", "", "region of the store (default us-east-1)")
	f.StringVar(&s.s3CA, "s3-ca", "", "PEM file of the store's CA")
	f.StringVar(&s.clickhouse, "clickhouse", "", "ClickHouse, host:port of the native protocol; "+
		"password from DECKLE_CLICKHOUSE_PASSWORD")
	f.StringVar(&s.clickhouseDB, "clickhouse-database", "", "database (default: one of the run's own)")
	f.StringVar(&s.clickhouseUser, "clickhouse-user", "", "user (default \"default\")")
}

func (s *services) s3() (*config.S3, error) {
	if s.s3Endpoint == "" {
		if s.s3Bucket != "" {
			return nil, usagef("--s3-bucket needs --s3-endpoint")
		}
		return nil, nil
	}
	access, secret := os.Getenv("DECKLE_S3_ACCESS_KEY"), os.Getenv("DECKLE_S3_SECRET_KEY")
	if s.s3Bucket == "" || access == "" || secret == "" {
		return nil, usagef("--s3-endpoint needs --s3-bucket, and DECKLE_S3_ACCESS_KEY and " +
			"DECKLE_S3_SECRET_KEY in the environment")
	}
	c := &config.S3{
		Endpoint: s.s3Endpoint, Bucket: s.s3Bucket, Prefix: s.s3Prefix, Region: s.s3Region,
		AccessKey: config.SecretValue(access), SecretKey: config.SecretValue(secret),
	}
	if s.s3CA != "" {
		c.TLS = &config.TLS{CA: s.s3CA}
	}
	return c, nil
}

func (s *services) clickHouse() *config.ClickHouse {
	if s.clickhouse == "" {
		return nil
	}
	return &config.ClickHouse{
		Address: s.clickhouse, Database: s.clickhouseDB, User: s.clickhouseUser,
		Password: config.SecretValue(os.Getenv("DECKLE_CLICKHOUSE_PASSWORD")),
	}
}

// faultFlags are the shares of faults in the data.
func faultFlags(cmd *cobra.Command, f *sim.Faults) {
	flags := cmd.Flags()
	flags.Float64Var(&f.Duplicates, "duplicates", f.Duplicates, "share of records sent twice")
	flags.Float64Var(&f.Late, "late", f.Late, "share of events sent late, often after their session's end")
	flags.Float64Var(&f.Malformed, "malformed", f.Malformed, "share of records that cannot be used")
	flags.Float64Var(&f.OutOfOrder, "out-of-order", f.OutOfOrder, "share of events swapped with their session's next")
	flags.Float64Var(&f.TooLate, "too-late", f.TooLate, "share of records older than the retention "+
		"(leave at 0 where a backlog is read)")
	flags.Float64Var(&f.Odd, "odd", f.Odd, "share of events with legal but strange values")
}

// checkDemo names the first flag that cannot be what it is.
func checkDemo(o *demo.Options) error {
	switch {
	case o.Rate <= 0:
		return usagef("--rate %v: give records per second, more than 0", o.Rate)
	case o.Nodes != 1 && o.Nodes != 3:
		return usagef("--nodes %d: a cluster has one node or three", o.Nodes)
	case o.Shards < 0:
		return usagef("--shards %d: give a number of shards, or leave it out", o.Shards)
	case o.For < 0:
		return usagef("--for %v: must not be negative", o.For)
	case o.FlushInterval < 100*time.Millisecond:
		return usagef("--flush-interval %v: must be at least 100ms", o.FlushInterval)
	}
	return nil
}

func newDemoCommand() *cobra.Command {
	var o demo.Options
	var svc services
	var asJSON bool
	faults := sim.DefaultFaults()
	cmd := &cobra.Command{
		Use:        "demo",
		Short:      "Run everything in one process and check that all comes out equal",
		SuggestFor: []string{"try", "example", "quickstart"},
		Long: `Run three nodes with real Raft between them, an embedded broker, the simulator and Delta
tables on local files in one process, with live figures here and on a page. The embedded
broker is kfake, a test double from the Kafka client franz-go, and no Kafka: its records
are in memory, and gone with the process. --brokers names real ones.

When the time is up, or with Ctrl-C, every live session is ended, what is under way is
drained, and Delta, ClickHouse if given, every replica's state and the dead letter queue
are compared with the ground truth, row by row. The exit code is 0 only if all is equal.
Each run has a new folder below --dir; nothing is deleted.`,
		Example: `  deckle demo
  deckle demo --for 30s --json
  deckle demo --nodes 1 --rate 10000 --flush-interval 2s
  deckle demo --brokers 127.0.0.1:9092 --clickhouse 127.0.0.1:9000 \
      --s3-endpoint http://127.0.0.1:9100 --s3-bucket lake`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.S3, err = svc.s3(); err != nil {
				return err
			}
			if err := checkDemo(&o); err != nil {
				return err
			}
			if err := refuseZeros(cmd, "shards", "sessions", "seed", "drain"); err != nil {
				return err
			}
			o.ClickHouse, o.Faults = svc.clickHouse(), &faults
			o.Live = cmd.ErrOrStderr()
			if f, ok := o.Live.(*os.File); ok {
				o.LiveTTY = term.IsTerminal(int(f.Fd()))
			}
			report, err := demo.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := report.Table(cmd.OutOrStdout()); err != nil {
				return err
			}
			if asJSON {
				if err := report.JSON(cmd.OutOrStdout()); err != nil {
					return err
				}
			}
			if !report.Equal {
				return errNotEqual
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.For, "for", 0, "how long to produce (default: until Ctrl-C)")
	f.Float64Var(&o.Rate, "rate", 2000, "records per second")
	f.IntVar(&o.Nodes, "nodes", 3, "nodes: 1 or 3")
	f.IntVar(&o.Shards, "shards", 0, "shards (default 6, or 1 on a single node)")
	f.IntVar(&o.Sessions, "sessions", 0, "sessions live at once (default 2000, fewer at a low rate)")
	f.StringVar(&o.Dir, "dir", "deckle-demo", "folder below which each run has its own")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of the data (default: drawn from the clock)")
	f.DurationVar(&o.FlushInterval, "flush-interval", 10*time.Second, "how often epochs are cut and flushed")
	f.DurationVar(&o.DrainTimeout, "drain", 0, "bound of the drain (default 1m and three flush intervals)")
	f.StringVar(&o.HTTP, "http", "127.0.0.1:8080", "address of the page; another port is taken if it is in use")
	f.StringSliceVar(&o.Brokers, "brokers", nil, "Kafka brokers instead of the embedded one, host:port,…")
	f.BoolVar(&asJSON, "json", false, "print the report as one JSON object, the last line")
	svc.register(cmd)
	faultFlags(cmd, &faults)
	return cmd
}
