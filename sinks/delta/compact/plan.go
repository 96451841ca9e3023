package compact

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"deckle/sinks/delta/deltalog"
)

// Job is a list of files of one partition that become fewer files.
type Job struct {
	Partition string // as deltalog.Partition names it: its last value is a date
	Cold      bool   // it is closed
	Files     []*deltalog.File
	most      int64 // about the size at which a new file is ended
	// hidden says that deletion vectors hide much of the files: they are written anew without those rows, be they one
	// or many.
	hidden bool
}

// least is how few files the job is worth.
func (j *Job) least() int {
	if j.hidden {
		return 1
	}
	return 2
}

// Bytes is the sum of the files' sizes.
func (j *Job) Bytes() (n int64) {
	for _, f := range j.Files {
		n += f.Size
	}
	return n
}

// values are the partition values of the job's files.
func (j *Job) values(columns []string) deltalog.Values {
	values := deltalog.Values{}
	for i, v := range deltalog.PartitionValues(j.Partition) {
		values[columns[i]] = v
	}
	return values
}

const (
	leastFiles = 4              // that a job has, unless it is the last one of a closed date
	quiet      = 24 * time.Hour // since the last file of a closed date, so that the last job is worth it
	// crowd is how many small files a partition has when it is compacted although revisions may want them: each of them
	// costs every reader more than a revision that is made again.
	crowd       = 500
	crowdSettle = time.Minute
)

// Plan returns what there is to do by the newest version: at most one job for each partition, the oldest date first.
func (c *Compactor) Plan(ctx context.Context) ([]Job, error) {
	if err := c.opts.Log.Refresh(ctx); err != nil {
		return nil, err
	}
	now := c.opts.Now()
	parts := map[string][]*deltalog.File{}
	c.opts.Log.View(func(s *deltalog.Snapshot) {
		for path, l := range c.left {
			if now.Sub(l.since) >= leaveFor || s.File(path) == nil {
				delete(c.left, path)
			}
		}
		for f := range s.All() {
			if _, left := c.left[f.Path]; !left {
				parts[f.Partition] = append(parts[f.Partition], f)
			}
		}
	})
	var jobs []Job
	for in, files := range parts {
		values := deltalog.PartitionValues(in)
		day, err := time.Parse(time.DateOnly, values[len(values)-1])
		if err != nil {
			continue // of another tool: it has no date
		}
		j := Job{Partition: in, Cold: now.Sub(day.Add(24*time.Hour)) >= c.opts.Closed, most: c.opts.HotBytes}
		if j.Cold {
			j.most = c.opts.ColdBytes
		}
		if j.Files = c.pickHidden(files, now); len(j.Files) > 0 {
			j.hidden = true
		} else {
			j.Files = c.pick(files, &j, now)
		}
		if len(j.Files) > 0 {
			jobs = append(jobs, j)
		}
	}
	date := func(j *Job) string { return j.Partition[strings.LastIndexByte(j.Partition, '/')+1:] }
	slices.SortFunc(jobs, func(a, b Job) int {
		return cmp.Or(strings.Compare(date(&a), date(&b)), strings.Compare(a.Partition, b.Partition))
	})
	return jobs, nil
}

// pickHidden takes files of which more than a fifth of the rows is hidden, whatever their size: each reader reads those
// rows, too. What is larger than compaction makes its files stays as it is, because a source is held in memory.
func (c *Compactor) pickHidden(files []*deltalog.File, now time.Time) (out []*deltalog.File) {
	sum := int64(0)
	slices.SortFunc(files, func(a, b *deltalog.File) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range files {
		if f.Vector == nil || f.NumRecords < 0 || f.Vector.Cardinality <= f.NumRecords/5 ||
			f.Size > c.opts.ColdBytes+c.opts.ColdBytes/4 || now.Sub(time.UnixMilli(f.Modified)) < c.opts.Settle {
			continue
		}
		if len(out) == c.opts.JobFiles || len(out) > 0 && sum+f.Size > c.opts.JobBytes {
			break
		}
		out, sum = append(out, f), sum+f.Size
	}
	return out
}

// pick takes the smallest files first. The next one is taken if it is not larger than all before it together: so a byte
// is written again as often as its file has doubled, and not with each round.
func (c *Compactor) pick(files []*deltalog.File, j *Job, now time.Time) []*deltalog.File {
	files = slices.DeleteFunc(files, func(f *deltalog.File) bool { return f.Size >= j.most/2 })
	settle := c.opts.Settle
	// gofail: var deltaCompactSettle int
	// settle = time.Duration(deltaCompactSettle) * time.Second
	if len(files) > crowd {
		settle = min(settle, crowdSettle)
	}
	newest := int64(0)
	files = slices.DeleteFunc(files, func(f *deltalog.File) bool {
		newest = max(newest, f.Modified)
		return now.Sub(time.UnixMilli(f.Modified)) < settle
	})
	slices.SortFunc(files, func(a, b *deltalog.File) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), strings.Compare(a.Path, b.Path))
	})
	last := j.Cold && now.Sub(time.UnixMilli(newest)) >= quiet
	n, sum := 0, int64(0)
	for n < min(len(files), c.opts.JobFiles) && sum+files[n].Size <= c.opts.JobBytes &&
		(last || n < leastFiles || files[n].Size <= sum) {
		sum += files[n].Size
		n++
	}
	if n < 2 || n < leastFiles && !last {
		return nil
	}
	return files[:n]
}
