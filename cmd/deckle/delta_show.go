package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/history"
)

// shown is a version of a table.
type shown struct {
	Table      string             `json:"table"`
	Version    int64              `json:"version"`
	Checkpoint int64              `json:"checkpoint"` // from which it was read, -1 for none
	Protocol   *deltalog.Protocol `json:"protocol"`
	Metadata   *deltalog.Metadata `json:"metadata"`
	Domains    map[string]string  `json:"domains,omitempty"`
	Files      int                `json:"files"`
	Bytes      int64              `json:"bytes"`
	Rows       int64              `json:"rows"` // -1 if a file has no statistics
	Tombstones int                `json:"tombstones"`
	Vectors    int                `json:"deletionVectors"`
	Partitions []partitionSum     `json:"partitions"`
	Txns       map[string]int64   `json:"txns"`
}

type partitionSum struct {
	Partition string `json:"partition"`
	Files     int    `json:"files"`
	Bytes     int64  `json:"bytes"`
	Rows      int64  `json:"rows"` // -1 if a file has no statistics
}

func newShown(table string, s *history.State) *shown {
	out := &shown{Table: table, Version: s.Version, Checkpoint: s.Checkpoint, Protocol: s.Protocol,
		Metadata: s.Metadata,
		Domains:  s.Domains, Files: len(s.Files), Tombstones: len(s.Removed), Partitions: []partitionSum{},
		Txns: map[string]int64{}}
	sums := map[string]*partitionSum{}
	sum := func(total *int64, rows int64) {
		if *total < 0 || rows < 0 {
			*total = -1
		} else {
			*total += rows
		}
	}
	for _, f := range s.Files {
		p := sums[f.Partition]
		if p == nil {
			p = &partitionSum{Partition: f.Partition}
			sums[f.Partition] = p
		}
		p.Files++
		p.Bytes += f.Size
		out.Bytes += f.Size
		sum(&p.Rows, f.Rows())
		sum(&out.Rows, f.Rows())
		if f.Vector != nil {
			out.Vectors++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		out.Partitions = append(out.Partitions, *sums[name])
	}
	for id, t := range s.Txns {
		out.Txns[id] = t.Version
	}
	return out
}

func newDeltaShowCommand(l *lake) *cobra.Command {
	var m moment
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show TABLE",
		Short: "Show a version: protocol, properties, columns, partitions, transactions",
		Long: `Show a table as of a version: protocol and features, properties, columns, files and bytes
of each partition, and the transactions (txn) of each shard, which say up to which epoch
its rows are in the table.

Exit code 0: shown; 1: the version cannot be read.`,
		Example: `  deckle delta show sessions --config deckle.yaml
  deckle delta show sessions --config deckle.yaml --version 117
  deckle delta show events --url s3://lake/prefix --config deckle.yaml --timestamp 2026-11-29 --json`,
		Args: oneTable,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := l.state(cmd, args[0], &m, history.Options{})
			if err != nil {
				return err
			}
			out := newShown(args[0], s)
			if asJSON {
				return eachJSON(cmd.OutOrStdout(), []*shown{out})
			}
			return out.print(cmd.OutOrStdout())
		},
	}
	m.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (s *shown) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "table\t%s\n", s.Table)
	fmt.Fprintf(w, "version\t%d\n", s.Version)
	if s.Checkpoint >= 0 {
		fmt.Fprintf(w, "read from\tcheckpoint %d and %d commits\n", s.Checkpoint, s.Version-s.Checkpoint)
	} else {
		fmt.Fprintf(w, "read from\t%d commits\n", s.Version+1)
	}
	p := s.Protocol
	fmt.Fprintf(w, "protocol\treader %d, writer %d\n", p.MinReaderVersion, p.MinWriterVersion)
	for _, f := range []struct {
		of   string
		list []string
	}{{"reader features", p.ReaderFeatures}, {"writer features", p.WriterFeatures}} {
		if len(f.list) > 0 {
			fmt.Fprintf(w, "%s\t%s\n", f.of, strings.Join(f.list, ", "))
		}
	}
	fmt.Fprintf(w, "id\t%s\n", s.Metadata.ID)
	if s.Metadata.CreatedTime != nil {
		fmt.Fprintf(w, "created\t%s\n", time.UnixMilli(*s.Metadata.CreatedTime).UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(w, "partitioned by\t%s\n", orDash(strings.Join(s.Metadata.PartitionColumns, ", ")))
	fmt.Fprintf(w, "files\t%d, %s, %s rows\n", s.Files, bytesText(s.Bytes), count(s.Rows))
	fmt.Fprintf(w, "tombstones\t%d\n", s.Tombstones)
	if s.Vectors > 0 {
		fmt.Fprintf(w, "deletion vectors\t%d\n", s.Vectors)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	section := func(title string, values map[string]string) {
		if len(values) > 0 {
			fmt.Fprintf(w, "\n%s\tVALUE\n", title)
		}
		for _, k := range slices.Sorted(maps.Keys(values)) {
			fmt.Fprintf(w, "%s\t%s\n", k, values[k])
		}
	}
	section("PROPERTY", s.Metadata.Configuration)
	section("DOMAIN", s.Domains)
	fmt.Fprint(w, "\nCOLUMN\tTYPE\n")
	for _, c := range history.ColumnList(s.Metadata) {
		fmt.Fprintf(w, "%s\t%s\n", c[0], c[1])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprint(w, "\nPARTITION\tFILES\tBYTES\tROWS\n")
	for _, p := range s.Partitions {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", orDash(p.Partition), p.Files, p.Bytes, count(p.Rows))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprint(w, "\nTXN\tVERSION\n")
	for _, id := range slices.Sorted(maps.Keys(s.Txns)) {
		fmt.Fprintf(w, "%s\t%d\n", id, s.Txns[id])
	}
	return w.Flush()
}

// fileLine is a file of a table.
type fileLine struct {
	Path      string            `json:"path"`
	Partition deltalog.Values   `json:"partition"`
	Bytes     int64             `json:"bytes"`
	Rows      int64             `json:"rows"`     // -1 if unknown
	Modified  time.Time         `json:"modified"` // by the writer's clock
	Vector    *history.Vector   `json:"deletionVector,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
	Stats     json.RawMessage   `json:"stats,omitempty"`
}

func newFileLine(f *history.File) fileLine {
	out := fileLine{Path: f.Path, Partition: f.Values, Bytes: f.Size, Rows: f.Rows(),
		Modified: time.UnixMilli(f.Modified).UTC(), Vector: f.Vector, Tags: f.Tags}
	if json.Valid([]byte(f.Stats)) {
		out.Stats = json.RawMessage(f.Stats)
	}
	return out
}

func newDeltaFilesCommand(l *lake) *cobra.Command {
	var m moment
	var partitions []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "files TABLE",
		Short: "List the live files of a version",
		Long: `List the live files of a version, ascending by path, with partition, size and rows; with
--json their tags and statistics, too. --partition takes the files of one partition value,
and may be given several times; COLUMN= takes those in which it is null.

Exit code 0: listed; 1: the version cannot be read.`,
		Example: `  deckle delta files sessions --config deckle.yaml --partition session_date=2026-11-29
  deckle delta files events --config deckle.yaml --json`,
		Args: oneTable,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, p := range partitions {
				if !strings.Contains(p, "=") {
					return usagef("--partition %q: want COLUMN=VALUE", p)
				}
			}
			s, err := l.state(cmd, args[0], &m, history.Options{Stats: asJSON})
			if err != nil {
				return err
			}
			columns := s.Metadata.PartitionColumns
			var all []fileLine
			for _, p := range partitions {
				if column, _, _ := strings.Cut(p, "="); !slices.Contains(columns, column) {
					return usagef("--partition %s: table %s is partitioned by %s", p, args[0],
						orDash(strings.Join(columns, ", ")))
				}
			}
			for _, f := range s.SortedFiles() {
				if len(partitions) == 0 || slices.ContainsFunc(partitions, func(p string) bool {
					column, value, _ := strings.Cut(p, "=")
					return f.Values[column] == value
				}) {
					all = append(all, newFileLine(f))
				}
			}
			if asJSON {
				return eachJSON(cmd.OutOrStdout(), all)
			}
			return printFiles(cmd.OutOrStdout(), all)
		},
	}
	m.flags(cmd)
	cmd.Flags().StringArrayVar(&partitions, "partition", nil, "COLUMN=VALUE: only files of this partition")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a file")
	return cmd
}

func printFiles(to io.Writer, all []fileLine) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PATH\tBYTES\tROWS\tMODIFIED")
	for i := range all {
		f := &all[i]
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", f.Path, f.Bytes, count(f.Rows), f.Modified.Format(time.RFC3339))
	}
	return w.Flush()
}

// difference is what differs between two versions.
type difference struct {
	Table       string           `json:"table"`
	From        int64            `json:"from"`
	To          int64            `json:"to"`
	Added       []fileLine       `json:"added"`
	Removed     []fileLine       `json:"removed"`
	RowsAdded   int64            `json:"rowsAdded"` // -1 if a file has no statistics
	RowsRemoved int64            `json:"rowsRemoved"`
	Txns        []history.Change `json:"txns"`
	Columns     []history.Change `json:"columns"`
	Properties  []history.Change `json:"properties"`
	Protocol    []history.Change `json:"protocol"`
}

func newDeltaDiffCommand(l *lake) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff TABLE FROM TO",
		Short: "Show what differs between two versions",
		Long: `Show what version TO has and version FROM has not, and the other way round: files, rows,
transactions, columns, properties and protocol. TO may be the older one.

Exit code 0: shown, whether they differ or not; 1: a version cannot be read.`,
		Example: `  deckle delta diff sessions 118 120 --config deckle.yaml
  deckle delta diff events 0 9 --url /var/lib/lake --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 3 {
				return usagef("name a table and two versions (see %s --help)", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var versions [2]int64
			for i, text := range args[1:] {
				if _, err := fmt.Sscanf(text, "%d", &versions[i]); err != nil || fmt.Sprint(versions[i]) != text {
					return usagef("%q is no version", text)
				}
			}
			t, done, err := l.table(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer done()
			var states [2]*history.State
			for i, v := range versions {
				if states[i], err = t.At(cmd.Context(), v, history.Options{}); err != nil {
					return err
				}
			}
			d := history.Compare(states[0], states[1])
			out := difference{Table: args[0], From: d.From, To: d.To, Added: []fileLine{}, Removed: []fileLine{},
				Txns: orEmpty(d.Txns), Columns: orEmpty(d.Columns), Properties: orEmpty(d.Properties),
				Protocol: orEmpty(d.Protocol)}
			for _, f := range d.Added {
				out.Added = append(out.Added, newFileLine(f))
			}
			for _, f := range d.Removed {
				out.Removed = append(out.Removed, newFileLine(f))
			}
			out.RowsAdded, out.RowsRemoved = d.Rows()
			if asJSON {
				return eachJSON(cmd.OutOrStdout(), []difference{out})
			}
			return out.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func orEmpty(c []history.Change) []history.Change {
	if c == nil {
		return []history.Change{}
	}
	return c
}

func (d *difference) print(to io.Writer) error {
	bytes := func(files []fileLine) (n int64) {
		for i := range files {
			n += files[i].Bytes
		}
		return n
	}
	fmt.Fprintf(to, "table %s, from version %d to %d\n", d.Table, d.From, d.To)
	fmt.Fprintf(to, "%d files added, %s, %s rows; %d removed, %s, %s rows\n", len(d.Added), bytesText(bytes(d.Added)),
		count(d.RowsAdded), len(d.Removed), bytesText(bytes(d.Removed)), count(d.RowsRemoved))
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for i := range d.Removed {
		fmt.Fprintf(w, "- %s\t%d\t%s\n", d.Removed[i].Path, d.Removed[i].Bytes, count(d.Removed[i].Rows))
	}
	for i := range d.Added {
		fmt.Fprintf(w, "+ %s\t%d\t%s\n", d.Added[i].Path, d.Added[i].Bytes, count(d.Added[i].Rows))
	}
	for _, part := range []struct {
		title   string
		changes []history.Change
	}{{"TXN", d.Txns}, {"COLUMN", d.Columns}, {"PROPERTY", d.Properties}, {"PROTOCOL", d.Protocol}} {
		if len(part.changes) > 0 {
			fmt.Fprintf(w, "\n%s\tFROM\tTO\n", part.title)
		}
		for _, c := range part.changes {
			text := func(s *string) string {
				if s == nil {
					return "-"
				}
				return *s
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, text(c.From), text(c.To))
		}
	}
	return w.Flush()
}
