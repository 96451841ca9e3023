package deltalog

import (
	"context"
	"errors"
	"path"
	"regexp"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/store"
)

// A RESTORE by another tool takes rows away that Deckle has written, and keeps the txns, so that nobody would write
// them again. Whether they come back or are given up an operator says; until then revisions wait, because what they
// write stands on the files that are gone. Two txns that name no plan tell every node where the table stands: up to
// which version such RESTOREs have been noticed, and up to which one it is settled what becomes of the rows.
//
// Each commit of this package carries the first of them if it is built on a version with a RESTORE that the txn does
// not tell of. So a node that reads the log from a checkpoint looks for a RESTORE only from there back to the newest
// commit of this package.

// NoticedID is the application id of the txn whose version is the newest version of a table in which another tool's
// RESTORE has taken files of Deckle's away.
func NoticedID(clusterID, pipeline string) string {
	return clusterID + "/" + pipeline + "/removed.noticed"
}

// AcceptedID is the application id of the txn that says up to which version it is settled what becomes of the rows
// that such RESTOREs took away.
func AcceptedID(clusterID, pipeline string) string {
	return clusterID + "/" + pipeline + "/removed.accepted"
}

// ownNames are those that Deckle gives to data files.
var ownNames = regexp.MustCompile(`^part-(\d{5,}-\d+|compact|shared)-[0-9a-f]{16}\.parquet$`)

// OwnName reports whether Deckle has given a data file its name.
func OwnName(logPath string) bool { return ownNames.MatchString(path.Base(logPath)) }

// swap is a file of Deckle's of which another tool's RESTORE hides other rows than before.
type swap struct{ was, is *deletionvector.Descriptor }

// takesAway reports whether another tool's RESTORE removes files of Deckle's. What others delete, update or overwrite
// they do on purpose, and it stays so. If it removes none, swaps are those of which it hides other rows than before:
// that takes rows away if some of them were not hidden.
func takesAway(removes []Remove, adds []Add) (is bool, swaps []swap) {
	vectors := map[string]*deletionvector.Descriptor{}
	for i := range adds {
		vectors[adds[i].Path] = adds[i].Vector
	}
	for i := range removes {
		r := &removes[i]
		if !r.DataChange || !OwnName(r.Path) {
			continue
		}
		d, stays := vectors[r.Path]
		switch {
		case !stays || d != nil && r.Vector == nil:
			return true, nil
		case d.ID() != r.Vector.ID() && d != nil:
			swaps = append(swaps, swap{r.Vector, d})
		}
	}
	return false, swaps
}

// compare finds out by their deletion vectors whether a RESTORE hides rows that were not hidden before. A vector that
// cannot be read, because it is damaged, gone or elsewhere, is taken for one that does: an operator is asked once too
// often, and not once too little. An error is one of the store.
func (l *folder) compare(ctx context.Context, c *commit) error {
	var takes atomic.Bool
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readAhead)
	for _, s := range c.swaps {
		g.Go(func() error {
			if takes.Load() {
				return nil
			}
			// What the log says of their sizes is enough to say that not all rows were hidden before.
			more := s.is.Cardinality > s.was.Cardinality
			if !more {
				was, err := l.hidden(ctx, s.was)
				if err != nil {
					return err
				}
				is, err := l.hidden(ctx, s.is)
				if err != nil {
					return err
				}
				more = is == nil || !is.In(was)
			}
			if more {
				takes.Store(true)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	c.takesAway, c.swaps = c.takesAway || takes.Load(), nil
	return nil
}

// hidden are the rows that a vector hides, nil if it cannot be read.
func (l *folder) hidden(ctx context.Context, d *deletionvector.Descriptor) (*deletionvector.Rows, error) {
	rows, err := deletionvector.Read(ctx, l.store, strings.TrimSuffix(l.root, "/"), d)
	_, damaged := errors.AsType[*deletionvector.DamageError](err)
	if damaged || errors.Is(err, deletionvector.ErrElsewhere) || errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return rows, err
}
