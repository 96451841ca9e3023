package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/history"
	"deckle/sinks/delta/store"
)

// tableDetail is the newest version of a table, under the names of DESCRIBE DETAIL where it has them.
type tableDetail struct {
	Name             string               `json:"name"`
	ID               string               `json:"id"`
	Description      string               `json:"description,omitempty"`
	Format           string               `json:"format"`
	Location         string               `json:"location"`
	CreatedAt        *time.Time           `json:"createdAt,omitempty"`
	Version          int64                `json:"version"`
	LastModified     *time.Time           `json:"lastModified,omitempty"` // of that version
	PartitionColumns []string             `json:"partitionColumns"`
	Files            int                  `json:"numFiles"`
	Bytes            int64                `json:"sizeInBytes"`
	Rows             int64                `json:"numRows"` // -1 if a file has no statistics
	Vectors          int                  `json:"numDeletionVectors"`
	MinReaderVersion int                  `json:"minReaderVersion"`
	MinWriterVersion int                  `json:"minWriterVersion"`
	Features         []string             `json:"tableFeatures"`
	Properties       map[string]string    `json:"properties"`
	Columns          []history.Column     `json:"columns"`
	Constraints      []history.Constraint `json:"constraints"`
	Shards           []shardTxn           `json:"shards"`
	Others           []otherTxn           `json:"otherTransactions"`
	Checkpoint       *detailCheckpoint    `json:"lastCheckpoint"` // null for none
}

// shardTxn says up to which epoch the rows of a shard are in the table.
type shardTxn struct {
	Shard   uint32     `json:"shard"`
	Sink    string     `json:"sink"` // events, sessions, revisions
	Epoch   int64      `json:"epoch"`
	Updated *time.Time `json:"updated,omitempty"` // by the clock of the node that wrote it
}

// otherTxn is a transaction that is no shard's.
type otherTxn struct {
	AppID   string     `json:"appId"`
	Version int64      `json:"version"`
	Updated *time.Time `json:"updated,omitempty"`
}

type detailCheckpoint struct {
	Version int64     `json:"version"`
	Bytes   int64     `json:"bytes"`
	Written time.Time `json:"written"` // by the store's clock
}

func newDeltaDescribeCommand(l *lake) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "describe TABLE",
		Short: "Describe a table: place, protocol, columns, constraints, shards, last checkpoint",
		Long: `Describe the newest version of a table as DESCRIBE DETAIL does, and its columns with
comments, defaults and constraints: name, location, protocol and features, properties,
partition columns, number and bytes of files, up to which epoch each shard is written, and
the last checkpoint. "deckle delta log" has the history of operations, "deckle delta show"
former versions, and files by partition.

Exit code 0: described; 1: the table cannot be read.`,
		Example: `  deckle delta describe sessions --config deckle.yaml
  deckle delta describe events --url /var/lib/lake --json`,
		Args: oneTable,
		RunE: func(cmd *cobra.Command, args []string) error {
			st, done, err := l.open()
			if err != nil {
				return err
			}
			defer done()
			out, err := describe(cmd.Context(), st, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return eachJSON(cmd.OutOrStdout(), []*tableDetail{out})
			}
			return out.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func describe(ctx context.Context, st store.Store, name string) (*tableDetail, error) {
	t, err := history.Open(ctx, st, name)
	if err != nil {
		return nil, err
	}
	s, err := t.At(ctx, t.Newest(), history.Options{})
	if err != nil {
		return nil, err
	}
	sum, m := newShown(name, s), s.Metadata
	out := &tableDetail{Name: name, ID: m.ID, Format: m.Format.Provider,
		Location: location(st, name), Version: s.Version,
		PartitionColumns: orNone(m.PartitionColumns), Files: sum.Files, Bytes: sum.Bytes, Rows: sum.Rows,
		Vectors: sum.Vectors, MinReaderVersion: s.Protocol.MinReaderVersion,
		MinWriterVersion: s.Protocol.MinWriterVersion, Features: orNone(s.Protocol.Features()),
		Properties: map[string]string{}, Columns: orNone(history.ColumnsOf(m)),
		Constraints: orNone(history.Constraints(m)), CreatedAt: millis(m.CreatedTime)}
	maps.Copy(out.Properties, m.Configuration)
	if m.Description != nil {
		out.Description = *m.Description
	}
	out.Shards, out.Others = splitTxns(s)
	if v := t.Versions(); len(v) > 0 && v[len(v)-1] == s.Version { // a table may be nothing but a checkpoint
		c, err := t.Commit(ctx, s.Version)
		if err != nil {
			return nil, err
		}
		at := c.At()
		out.LastModified = &at
	}
	if all := t.Checkpoints(); len(all) > 0 {
		c := &all[len(all)-1]
		out.Checkpoint = &detailCheckpoint{c.Version, c.Bytes, c.Written.UTC()}
	}
	return out, nil
}

// location is the folder of the table, or its address at the endpoint of the store.
func location(st store.Store, name string) string {
	return strings.TrimSuffix(strings.TrimPrefix(st.String(), "folder "), "/") + "/" + name
}

func orNone[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func millis(at *int64) *time.Time {
	if at == nil {
		return nil
	}
	t := time.UnixMilli(*at).UTC()
	return &t
}

// splitTxns tells the transactions of shards from all others, each ascending.
func splitTxns(s *history.State) (shards []shardTxn, others []otherTxn) {
	shards, others = []shardTxn{}, []otherTxn{}
	cfg := s.Metadata.Configuration
	prefix := cfg[deltalog.ConfigClusterID] + "/" + cfg[deltalog.ConfigPipeline] + "/"
	for _, id := range slices.Sorted(maps.Keys(s.Txns)) {
		t := s.Txns[id]
		rest, own := strings.CutPrefix(id, prefix)
		number, kind, _ := strings.Cut(rest, "/")
		n, err := strconv.ParseUint(number, 10, 32)
		if sink, ok := sinkOf[kind]; own && ok && err == nil {
			shards = append(shards, shardTxn{uint32(n), sink, t.Version, millis(t.LastUpdated)})
		} else {
			others = append(others, otherTxn{id, t.Version, millis(t.LastUpdated)})
		}
	}
	slices.SortFunc(shards, func(a, b shardTxn) int {
		return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(a.Sink, b.Sink))
	})
	return shards, others
}

// sinkOf names sinks by the last part of their application ids.
var sinkOf = map[string]string{"events": "events", "sessions": "sessions", "sessions.revisions": "revisions"}

func (d *tableDetail) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	when := func(t *time.Time) string {
		if t == nil {
			return "-"
		}
		return t.Format(time.RFC3339)
	}
	for _, row := range [][2]string{
		{"name", d.Name}, {"description", orDash(d.Description)}, {"location", d.Location}, {"format", d.Format},
		{"id", d.ID}, {"created", when(d.CreatedAt)}, {"version", strconv.FormatInt(d.Version, 10)},
		{"last modified", when(d.LastModified)}, {"partitioned by", orDash(strings.Join(d.PartitionColumns, ", "))},
		{"files", fmt.Sprintf("%d, %s, %s rows", d.Files, bytesText(d.Bytes), count(d.Rows))},
		{"protocol", fmt.Sprintf("reader %d, writer %d", d.MinReaderVersion, d.MinWriterVersion)},
		{"features", orDash(strings.Join(d.Features, ", "))}, {"last checkpoint", d.checkpoint()},
	} {
		fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
	}
	if d.Vectors > 0 {
		fmt.Fprintf(w, "deletion vectors\t%d\n", d.Vectors)
	}
	section := func(title string, n int, row func(i int) []string) {
		_ = w.Flush() // so that each section has widths of its own; an error comes again at the end
		if n > 0 {
			fmt.Fprintf(w, "\n%s\n", strings.ReplaceAll(title, " ", "\t"))
		}
		for i := range n {
			fmt.Fprintln(w, strings.Join(row(i), "\t"))
		}
	}
	keys := slices.Sorted(maps.Keys(d.Properties))
	section("PROPERTY VALUE", len(keys), func(i int) []string { return []string{keys[i], d.Properties[keys[i]]} })
	section("COLUMN TYPE NULL DEFAULT COMMENT", len(d.Columns), func(i int) []string {
		c := &d.Columns[i]
		null, value := "", c.Default
		if !c.Nullable {
			null = "not null"
		}
		if c.Generated != "" {
			value = "generated: " + c.Generated
		}
		return []string{c.Name, c.Type, null, value, c.Comment}
	})
	section("CONSTRAINT CHECK", len(d.Constraints), func(i int) []string {
		return []string{d.Constraints[i].Name, d.Constraints[i].Expression}
	})
	section("SHARD SINK EPOCH UPDATED", len(d.Shards), func(i int) []string {
		s := &d.Shards[i]
		return []string{strconv.FormatUint(uint64(s.Shard), 10), s.Sink, strconv.FormatInt(s.Epoch, 10),
			when(s.Updated)}
	})
	section("TXN VERSION UPDATED", len(d.Others), func(i int) []string {
		return []string{d.Others[i].AppID, strconv.FormatInt(d.Others[i].Version, 10), when(d.Others[i].Updated)}
	})
	return w.Flush()
}

func (d *tableDetail) checkpoint() string {
	if d.Checkpoint == nil {
		return "-"
	}
	return fmt.Sprintf("version %d, %s, %s", d.Checkpoint.Version, bytesText(d.Checkpoint.Bytes),
		d.Checkpoint.Written.Format(time.RFC3339))
}
