package main

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
)

// onDisk is how many bytes the nodes' data folders take on disk, all together.
type onDisk struct {
	all   int64
	state int64 // the part of the shards' Pebble stores
}

// diskBytes counts a file with several names once: snapshots are hard links. All folders are on one file system. Files
// may appear and vanish meanwhile.
func (c *cluster) diskBytes() (sum onDisk, err error) {
	seen := map[uint64]bool{} // inodes
	for _, n := range c.Nodes {
		err := filepath.WalkDir(n.DataDir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return ignoreMissing(err)
			}
			info, err := d.Info()
			if err != nil {
				return ignoreMissing(err)
			}
			st, ok := info.Sys().(*syscall.Stat_t)
			if !ok {
				return errors.New("bench: no inode numbers on this system")
			}
			if !seen[st.Ino] {
				seen[st.Ino] = true
				sum.all += st.Blocks * 512
				if strings.HasPrefix(filepath.Base(filepath.Dir(path)), "shard-") {
					sum.state += st.Blocks * 512
				}
			}
			return nil
		})
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
