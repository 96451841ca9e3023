package delta

import (
	"context"
	"fmt"

	"deckle/schema"
	"deckle/sinks/delta/deltalog"
)

// dataFile is one finished data file.
type dataFile struct {
	date  int32 // of its partition, days since 1970-01-01
	data  []byte
	rows  int64
	stats string
}

// upload puts a data file under a name that is drawn for this one put, and returns its add action.
func (w *writer) upload(ctx context.Context, f *dataFile, origin deltalog.Origin) (deltalog.Add, error) {
	if err := w.opts.step("upload"); err != nil {
		return deltalog.Add{}, err
	}
	attempt, err := w.attemptID()
	if err != nil {
		return deltalog.Add{}, err
	}
	date := schema.DateText(f.date)
	path := fmt.Sprintf("%s=%s/part-%05d-%d-%s.parquet", w.table.partition, date, origin.Shard, origin.To, attempt)
	if err := w.opts.Store.Put(ctx, w.table.name+"/"+path, f.data); err != nil {
		return deltalog.Add{}, fmt.Errorf("delta: data file: %w", err)
	}
	// gofail: var deltaFileStaged struct{}
	if err := w.opts.step("uploaded"); err != nil {
		return deltalog.Add{}, err
	}
	var tags map[string]string
	if origin.Tagged {
		tags = origin.Tags()
	}
	return deltalog.Add{
		Path: path, PartitionValues: map[string]string{w.table.partition: date}, Size: int64(len(f.data)),
		ModificationTime: w.opts.Now().UnixMilli(), DataChange: true, Stats: f.stats, Tags: tags,
	}, nil
}

// submit hands a change to the table's committer, between two steps that a crash may cut off.
func (w *writer) submit(ctx context.Context, c *deltalog.Change) error {
	if err := w.opts.step("submit"); err != nil {
		return err
	}
	if err := w.log.Submit(ctx, c); err != nil {
		// gofail: var bugDeleteStaged struct{}
		// for _, a := range c.Adds {
		// 	_ = w.opts.Store.Delete(context.WithoutCancel(ctx), w.table.name+"/"+a.Path)
		// }
		return err
	}
	return w.opts.step("submitted")
}
