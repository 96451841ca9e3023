package node

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/cipherfs"
	"deckle/node/config"
	"deckle/raftstore"
)

// proveFolder reads the keys, and finds out whether they are those of the data folder. It comes before anything else is
// opened, and writes nothing: a key that is wrong must not look like a damaged disk, for which a node gives up its
// folder.
func proveFolder(cfg *config.Config, deps *Deps) (*cipherfs.Folder, error) {
	o := cipherfs.Options{FS: deps.FS, Logger: deps.Logger, Lock: raftstore.LockPath(deps.FS, cfg.DataDir)}
	if e := cfg.Encryption; e != nil {
		for i, f := range e.Keys {
			text, err := deps.ReadFile(f.File)
			if err != nil {
				return nil, fmt.Errorf("encryption.keys[%d]: %w", i, err)
			}
			k, err := cipherfs.ParseKey(text)
			if err != nil {
				return nil, fmt.Errorf("encryption.keys[%d]: %s: %w", i, f.File, err)
			}
			o.Keys = append(o.Keys, k)
		}
		o.Plain, o.NewPlain = e.PlainFiles == "accept", e.NewFiles == "plain"
	}
	folder, err := cipherfs.Prove(o, cfg.DataDir, lakeWithin(deps.FS, cfg)...)
	if err != nil {
		return nil, fmt.Errorf("node: data_dir %s: %w", cfg.DataDir, err)
	}
	return folder, nil
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
