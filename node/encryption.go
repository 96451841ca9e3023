package node

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/cipherfs"
	"deckle/node/condition"
	"deckle/node/config"
	"deckle/raftstore"
)

// proveFolder reads the keys, and finds out whether they are those of the data folder. It comes before anything else is
// opened, and writes nothing: a key that is wrong must not look like a damaged disk, for which a node gives up its
// folder. The folder is opened on fsys: deps.FS, or what lies above it.
func proveFolder(
	cfg *config.Config, deps *Deps, fsys vfs.FS,
) (folder *cipherfs.Folder, keys []*cipherfs.Key, err error) {
	o, err := sealing(cfg, deps)
	if err != nil {
		return nil, nil, err
	}
	o.FS = fsys
	folder, err = cipherfs.Prove(o, cfg.DataDir, lakeWithin(deps.FS, cfg)...)
	if err != nil {
		return nil, nil, fmt.Errorf("node: data_dir %s: %w", cfg.DataDir, err)
	}
	return folder, o.Keys, nil
}

// sealing reads the keys.
func sealing(cfg *config.Config, deps *Deps) (o cipherfs.Options, err error) {
	o = cipherfs.Options{FS: deps.FS, Logger: deps.Logger, Lock: raftstore.LockPath(deps.FS, cfg.DataDir)}
	if e := cfg.Encryption; e != nil {
		for i, f := range e.Keys {
			text, err := deps.ReadFile(f.File)
			if err != nil {
				return o, fmt.Errorf("encryption.keys[%d]: %w", i, err)
			}
			k, err := cipherfs.ParseKey(text)
			if err != nil {
				return o, fmt.Errorf("encryption.keys[%d]: %s: %w", i, f.File, err)
			}
			o.Keys = append(o.Keys, k)
		}
		o.Plain, o.NewPlain = e.PlainFiles == "accept", e.NewFiles == "plain"
	}
	return o, nil
}

// FolderKeys says what the files of a data folder are sealed with.
type FolderKeys struct {
	DataDir string         `json:"data_dir"`
	Keys    []FolderKey    `json:"keys"`  // those of encryption.keys, as there, then others by id
	Plain   cipherfs.Count `json:"plain"` // not sealed
	Other   cipherfs.Count `json:"other"` // not the node's, or what a crash has left

	back bool // new files are plain
}

// FolderKey is a key, and what is sealed with it.
type FolderKey struct {
	ID  string `json:"id"`
	Use string `json:"use"` // "new files", "old files", or "not given"
	cipherfs.Count
}

const useNew, useOld, useNone = "new files", "old files", "not given"

// Old counts the files that would not be written again as they are: they have another key than the first, or none. On
// the way back it counts those that have a key.
func (k *FolderKeys) Old() (n int) {
	for _, key := range k.Keys {
		if key.Use != useNew {
			n += key.Files
		}
	}
	if !k.back {
		n += k.Plain.Files
	}
	return n
}

// LookAtKeys reports on the data folder of a configuration. The node may be running.
func LookAtKeys(cfg *config.Config, deps Deps) (*FolderKeys, error) {
	deps.complete()
	o, err := sealing(cfg, &deps)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return lookAtKeys(cfg, deps.FS, o.Keys)
}

func lookAtKeys(cfg *config.Config, fsys vfs.FS, keys []*cipherfs.Key) (*FolderKeys, error) {
	r, err := cipherfs.Look(fsys, cfg.DataDir, lakeWithin(fsys, cfg)...)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	all := &FolderKeys{DataDir: cfg.DataDir, Keys: []FolderKey{}, Plain: r.Plain, Other: r.Other,
		back: cfg.Encryption == nil || cfg.Encryption.NewFiles == "plain"}
	use := useNew
	if all.back {
		use = useOld
	}
	for _, k := range keys {
		all.Keys = append(all.Keys, FolderKey{k.ID().String(), use, r.Sealed[k.ID()]})
		delete(r.Sealed, k.ID())
		use = useOld
	}
	for _, id := range slices.SortedFunc(maps.Keys(r.Sealed), func(a, b cipherfs.KeyID) int {
		return bytes.Compare(a[:], b[:])
	}) {
		all.Keys = append(all.Keys, FolderKey{id.String(), useNone, r.Sealed[id]})
	}
	return all, nil
}

// keysEvery is how often a node looks at what its files are sealed with.
const keysEvery = 10 * time.Minute

// watchKeys keeps the condition for files that have not the key that they should have.
func watchKeys(
	ctx context.Context, cfg *config.Config, deps *Deps, keys []*cipherfs.Key, list *condition.Registry,
) {
	if cfg.Encryption == nil {
		return
	}
	again := time.NewTicker(keysEvery)
	defer again.Stop()
	for {
		all, err := lookAtKeys(cfg, deps.FS, keys)
		text := ""
		switch {
		case err != nil: // whoever owns the file meets it, too
			deps.Logger.Debug("the keys of the files could not be looked at", "error", err)
		case all.Old() > 0 && all.back:
			text = fmt.Sprintf("%d files still have a key", all.Old())
		case all.Old() > 0:
			text = fmt.Sprintf("%d files have another key than the first of encryption.keys, or none", all.Old())
		}
		if err == nil {
			list.Keep(condition.EncryptionOldKey, "data_dir", text)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// Reseal gives every file of the data folder the first key, or makes it plain where encryption.new_files says so, and
// says what was changed. The node must not be running. acceptPlain seals plain files, too: without it they are refused,
// unless encryption.plain_files accepts them. progress is called after each file.
func Reseal(
	ctx context.Context, cfg *config.Config, deps Deps, acceptPlain bool, progress func(done, all cipherfs.Count),
) (done cipherfs.Count, err error) {
	deps.complete()
	o, err := sealing(cfg, &deps)
	if err != nil {
		return done, fmt.Errorf("node: %w", err)
	}
	o.Plain, o.Progress = o.Plain || acceptPlain, progress
	if o.Discard, err = raftstore.Copies(deps.FS, cfg.DataDir); err != nil {
		return done, fmt.Errorf("node: %w", err)
	}
	done, err = cipherfs.Rewrite(ctx, o, cfg.DataDir, lakeWithin(deps.FS, cfg)...)
	if err != nil {
		return done, fmt.Errorf("node: data_dir %s: %w", cfg.DataDir, err)
	}
	return done, nil
}

// lakeWithin returns the path of a local Delta folder that lies in the data folder: it is no part of what is sealed.
func lakeWithin(fs vfs.FS, cfg *config.Config) []string {
	if cfg.Delta == nil || cfg.Delta.Path == "" {
		return nil
	}
	lake, err1 := filepath.Abs(cfg.Delta.Path)
	dir, err2 := filepath.Abs(cfg.DataDir)
	if err1 != nil || err2 != nil {
		return nil
	}
	rel, err := filepath.Rel(dir, lake)
	if err != nil || rel == "." || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return nil
	}
	return []string{fs.PathJoin(cfg.DataDir, filepath.ToSlash(rel))}
}
