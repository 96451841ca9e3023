package state

import (
	"context"
	"fmt"
)

// Checkpoint makes a checkpoint of everything applied and waits until it is on disk.
func (s *Store) Checkpoint(ctx context.Context) error {
	if s.opts.Room != nil {
		s.mu.Lock()
		bytes := s.dirtyBytes
		s.mu.Unlock()
		if err := s.opts.Room(bytes); err != nil {
			return fmt.Errorf("state: checkpoint: %w", err)
		}
	}
	_, _, err := s.checkpointNow(ctx)
	return err
}

func (s *Store) checkpointNow(ctx context.Context) (index, term uint64, err error) {
	s.mu.Lock()
	if s.db == nil {
		s.mu.Unlock()
		return 0, 0, ErrClosed
	}
	done, err := s.checkpoint()
	index, term = s.meta.Index, s.meta.Term
	s.publish()
	s.mu.Unlock()
	if err != nil {
		return 0, 0, fmt.Errorf("state: checkpoint at index %d: %w", index, damaged(s.opts.Dir, err))
	}
	select {
	case <-done:
		return index, term, nil
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
}

// Snapshot makes a checkpoint and writes a durable copy of the store into dir, which must not exist and must be on the
// same file system. The copy's state is that of the index returned, or of a later checkpoint, because Apply may go on
// meanwhile. Every table of the copy is read and checked: if one is damaged, the error is a *DamageError, and there is
// no snapshot.
func (s *Store) Snapshot(dir string) (index, term uint64, err error) {
	// gofail: var bugStaleSnapshot struct{}
	// index, term = s.Applied()
	// s.mu.RLock()
	// defer s.mu.RUnlock()
	// return index, term, s.db.Checkpoint(dir)
	if index, term, err = s.checkpointNow(context.Background()); err != nil {
		return 0, 0, err
	}
	if err := s.copyTo(dir); err != nil {
		return 0, 0, fmt.Errorf("state: snapshot into %s: %w", dir, damaged(s.opts.Dir, err))
	}
	if err := verifyTables(s.opts.FS, dir); err != nil {
		return 0, 0, fmt.Errorf("state: snapshot into %s: %w", dir, err)
	}
	return index, term, nil
}

func (s *Store) copyTo(dir string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return ErrClosed
	}
	// Without a WAL, Pebble's checkpoint holds what is flushed: whole checkpoints of ours, up to this one or a later
	// one.
	return s.db.Checkpoint(dir)
}

// Restore replaces the state by the files of a snapshot. It takes the folder dir over by renaming it. If Restore is
// interrupted, the next Open has the former state or the new one; if dir is still there, it can be restored again.
func (s *Store) Restore(dir string) error {
	if err := s.plans.end(); err != nil {
		return fmt.Errorf("state: ending plans before restore: %w", err)
	}
	defer s.plans.begin()
	s.mu.Lock()
	defer s.mu.Unlock()
	fs := s.opts.FS
	if s.db != nil {
		if err := s.closeDB(); err != nil {
			return fmt.Errorf("state: closing before restore: %w", err)
		}
	}
	if err := finishRestore(fs, s.opts.Dir); err != nil {
		return err
	}
	if err := fs.Rename(s.opts.Dir, formerDir(s.opts.Dir)); err != nil {
		return fmt.Errorf("state: restore: %w", err)
	}
	if err := fs.Rename(dir, s.opts.Dir); err != nil {
		return fmt.Errorf("state: restore: %w", err)
	}
	if err := finishRestore(fs, s.opts.Dir); err != nil {
		return err
	}
	return s.openDB()
}
