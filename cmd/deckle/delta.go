package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"deckle/node/config"
	"deckle/sim/verify"
	"deckle/sinks/delta/history"
	"deckle/sinks/delta/store"
)

// lake is where the tables are that the commands of the family delta open.
type lake struct {
	config, url string
}

// open opens the store. The caller calls the returned function when it is done.
func (l *lake) open() (st store.Store, done func(), err error) {
	d := &config.Delta{}
	u, err := url.Parse(l.url)
	isS3 := err == nil && u.Scheme == "s3"
	if l.config != "" || l.url == "" || isS3 {
		cfg, err := loadConfig(l.config)
		if err != nil {
			return nil, nil, err
		}
		if cfg.Delta == nil {
			return nil, nil, usagef("%s has no delta: it names no store of tables", l.config)
		}
		d = cfg.Delta
	}
	switch {
	case isS3 && d.S3 == nil:
		return nil, nil, usagef("--url %s: %s has no delta.s3, whose endpoint and keys are needed", l.url, l.config)
	case isS3:
		s3 := *d.S3
		s3.Bucket, s3.Prefix = u.Host, strings.Trim(u.Path, "/")
		d = &config.Delta{S3: &s3}
	case l.url != "" && strings.Contains(l.url, "://"):
		return nil, nil, usagef("--url %s: want a path or s3://BUCKET/PREFIX", l.url)
	case l.url != "":
		path, err := filepath.Abs(l.url)
		if err != nil {
			return nil, nil, err
		}
		d = &config.Delta{Path: path}
	}
	st, err = verify.OpenStore(d)
	if err != nil {
		return nil, nil, err
	}
	return store.WithTimeouts(st, 30*time.Second), func() {
		if c, ok := st.(io.Closer); ok {
			_ = c.Close()
		}
	}, nil
}

// table opens one table.
func (l *lake) table(ctx context.Context, name string) (*history.Table, func(), error) {
	st, done, err := l.open()
	if err != nil {
		return nil, nil, err
	}
	t, err := history.Open(ctx, st, name)
	if err != nil {
		done()
		return nil, nil, err
	}
	return t, done, nil
}

// state reads a table as of a moment.
func (l *lake) state(cmd *cobra.Command, name string, m *moment, opts history.Options) (*history.State, error) {
	t, done, err := l.table(cmd.Context(), name)
	if err != nil {
		return nil, err
	}
	defer done()
	v, err := m.of(cmd, t)
	if err != nil {
		return nil, err
	}
	return t.At(cmd.Context(), v, opts)
}

// tables opens the store and returns the tables that are named, or sessions and events as far as they are there.
func (l *lake) tables(ctx context.Context, names []string) (st store.Store, all []string, done func(), err error) {
	if st, done, err = l.open(); err != nil {
		return nil, nil, nil, err
	}
	if all, err = present(ctx, st, names); err != nil {
		done()
		return nil, nil, nil, err
	}
	return st, all, done, nil
}

func present(ctx context.Context, st store.Store, names []string) ([]string, error) {
	if len(names) > 0 {
		return names, nil
	}
	for _, name := range []string{"events", "sessions"} {
		_, err := history.Open(ctx, st, name)
		if err == nil {
			names = append(names, name)
		} else if !errors.Is(err, history.ErrNoTable) {
			return nil, err
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("there is neither table events nor sessions in %s", st)
	}
	return names, nil
}

// oneTable refuses everything but the name of one table.
func oneTable(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("name one table: events or sessions (see %s --help)", cmd.CommandPath())
	}
	return nil
}

// moment is a version by its number or by a time.
type moment struct {
	version   int64
	timestamp string
}

func (m *moment) flags(cmd *cobra.Command) {
	cmd.Flags().Int64Var(&m.version, "version", 0, "the version (default: the newest)")
	cmd.Flags().StringVar(&m.timestamp, "timestamp", "", "the newest version at this time, as 2026-11-29T12:00:00Z or "+
		"2026-11-29 (midnight UTC)")
}

func (m *moment) of(cmd *cobra.Command, t *history.Table) (int64, error) {
	byVersion, byTime := cmd.Flags().Changed("version"), cmd.Flags().Changed("timestamp")
	switch {
	case byVersion && byTime:
		return 0, usageError{errors.New("--version and --timestamp are two answers to one question")}
	case byVersion:
		return m.version, nil
	case byTime:
		at, err := m.time(cmd)
		if err != nil {
			return 0, err
		}
		return t.VersionAt(cmd.Context(), at)
	}
	return t.Newest(), nil
}

// time is what --timestamp says, zero if it is not given.
func (m *moment) time(cmd *cobra.Command) (at time.Time, err error) {
	switch {
	case !cmd.Flags().Changed("timestamp"):
		return at, nil
	case cmd.Flags().Changed("version"):
		return at, usageError{errors.New("--version and --timestamp are two answers to one question")}
	}
	if at, err = time.Parse(time.RFC3339, m.timestamp); err != nil {
		if at, err = time.Parse(time.DateOnly, m.timestamp); err != nil {
			return at, usagef("--timestamp %q: want a time as 2026-11-29T12:00:00Z", m.timestamp)
		}
	}
	return at, nil
}

func newDeltaLogCommand(l *lake) *cobra.Command {
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "log TABLE",
		Short: "Show what each version did, the newest first",
		Long: `Show the versions of a table as DESCRIBE HISTORY does, the newest first: when, by which
operation and node, how many files and rows, and which transactions (txn) it carries. TXNS
counts them; --json has each with its version.

Exit code 0: shown; 1: the table cannot be read.`,
		Example: `  deckle delta log sessions --config deckle.yaml
  deckle delta log events --url /var/lib/lake --limit 100 --json`,
		Args: oneTable,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := refuseZeros(cmd, "limit"); err != nil {
				return err
			}
			t, done, err := l.table(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer done()
			var all []versionLine
			versions := t.Versions()
			for i := len(versions) - 1; i >= 0 && len(all) < limit; i-- {
				c, err := t.Commit(cmd.Context(), versions[i])
				if err != nil {
					return err
				}
				all = append(all, newVersionLine(c))
			}
			if asJSON {
				return eachJSON(cmd.OutOrStdout(), all)
			}
			return printVersions(cmd.OutOrStdout(), all)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "most versions that are shown")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a version")
	return cmd
}

// versionLine is a version, under the names of DESCRIBE HISTORY where it has them.
type versionLine struct {
	Version    int64             `json:"version"`
	Timestamp  time.Time         `json:"timestamp"`
	Operation  string            `json:"operation"`
	Parameters map[string]string `json:"operationParameters"`
	Metrics    map[string]string `json:"operationMetrics"`
	Engine     string            `json:"engineInfo"`
	Node       string            `json:"node,omitempty"`
	User       string            `json:"userName,omitempty"`
	Read       *int64            `json:"readVersion,omitempty"`
	Blind      bool              `json:"isBlindAppend"`
	Txns       map[string]int64  `json:"txns"`
	Added      int               `json:"filesAdded"`
	Removed    int               `json:"filesRemoved"`
	Unknown    []string          `json:"unknownActions,omitempty"`
}

func newVersionLine(c *history.Commit) versionLine {
	v := versionLine{Version: c.Version, Timestamp: c.At(), Txns: map[string]int64{}, Added: len(c.Adds),
		Removed: len(c.Removes), Unknown: c.Unknown, Parameters: map[string]string{}, Metrics: map[string]string{}}
	for _, t := range c.Txns {
		v.Txns[t.AppID] = t.Version
	}
	if i := c.Info; i != nil {
		v.Operation, v.Engine, v.Node, v.User, v.Blind = i.Operation, i.Engine, i.Node, i.By, i.BlindAppend
		if i.Parameters != nil {
			v.Parameters = i.Parameters
		}
		if i.Metrics != nil {
			v.Metrics = i.Metrics
		}
		if i.ReadVersion >= 0 {
			v.Read = &i.ReadVersion
		}
	}
	return v
}

func printVersions(to io.Writer, all []versionLine) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tTIMESTAMP\tOPERATION\tBY\tADDED\tREMOVED\tROWS\tTXNS")
	for i := range all {
		v := &all[i]
		by := v.Engine
		if v.Node != "" {
			by += " " + v.Node
		}
		rows := v.Metrics["numOutputRows"]
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%d\t%s\t%d\n", v.Version, v.Timestamp.Format("2006-01-02T15:04:05.000Z"),
			orDash(v.Operation), orDash(by), v.Added, v.Removed, orDash(rows), len(v.Txns))
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// count is a number that is not known if it is negative.
func count(n int64) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

func eachJSON[T any](w io.Writer, all []T) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for i := range all {
		if err := e.Encode(all[i]); err != nil {
			return err
		}
	}
	return nil
}

// bytesText is a number of bytes for people.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f := float64(n)
	for len(units) > 1 && f >= 1024 {
		f, units = f/1024, units[1:]
	}
	if units[0] == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[0])
}
