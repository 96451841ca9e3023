package delta

import (
	"context"
	"errors"
	"fmt"

	"deckle/schema/level"
	"deckle/sinks/delta/deltalog"
)

// Checkpoint makes the checkpoint of the newest version of a table, "sessions" or "events", that Deckle has made. made
// is false if it is there already; size is in bytes. Of opts the store and what concerns commits is used; without a
// ClusterID the table's own is taken. The cluster may run.
func Checkpoint(ctx context.Context, opts Options, name string) (version, size int64, made bool, err error) {
	if err := opts.owner(ctx, name); err != nil {
		return 0, 0, false, err
	}
	opts.Events = false // no source of events is needed
	if err := opts.complete(); err != nil {
		return 0, 0, false, err
	}
	tables := map[string]*[level.Current + 1]*table{sessionsTable.name: &opts.layout.sessions,
		eventsTable.name: &opts.layout.events}[name]
	if tables == nil {
		return 0, 0, false, fmt.Errorf("delta: no table %q: want %s or %s", name, sessionsTable.name, eventsTable.name)
	}
	cdc, err := codec(opts.Compression)
	if err != nil {
		return 0, 0, false, err
	}
	log, err := deltalog.Open(ctx, deltalog.Options{Store: opts.Store, Name: name, Node: opts.Node, Now: opts.Now,
		Rand: opts.Rand, Sleep: opts.sleep, Logger: opts.Logger, Create: creation(tables, opts.Level, &opts),
		Codec: checkpointCodec(cdc)})
	if err != nil {
		return 0, 0, false, err
	}
	version, size, made, err = log.Checkpoint(ctx)
	return version, size, made, errors.Join(err, log.Close())
}

// owner sets the cluster and the pipeline to those that have made a table, unless they are set, and then the
// partitioning of sessions to that of the table, too.
func (o *Options) owner(ctx context.Context, table string) error {
	if o.ClusterID != "" {
		return nil
	}
	log, err := deltalog.Open(ctx, deltalog.Options{Store: o.Store, Name: table})
	if err != nil {
		return err
	}
	log.View(func(s *deltalog.Snapshot) {
		if s.Metadata != nil {
			o.ClusterID = s.Metadata.Configuration[deltalog.ConfigClusterID]
			o.Pipeline = s.Metadata.Configuration[deltalog.ConfigPipeline]
			o.SessionsByBrand = table == sessionsTable.name && partitionedByBrand(s)
		}
	})
	if o.ClusterID == "" {
		return fmt.Errorf("%w, or Deckle has not made it: %s", ErrNoTable, table)
	}
	return nil
}
