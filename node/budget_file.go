package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/node/config"
)

// budgetName is the file of the data folder that holds the default disk budget: {"disk_bytes":N}. It is written once,
// when the folder is created. Were the default decided at each start, it would follow what others do to the file
// system: a full disk would lower it below what the node holds already, and intake would never resume.
const budgetName = "disk_budget"

type budgetFile struct {
	DiskBytes int64 `json:"disk_bytes"`
}

// errBudgetFile is wrapped when the content of a budget file makes no sense.
var errBudgetFile = errors.New("node: damaged file")

// diskBudget is the configured budget of the data folder in bytes, or the one stored when the folder was created, or,
// the first time, half of what the folder and the free space are together. 0, no budget, is given for a file system
// that does not know its free space (one in memory). A damaged file is replaced: nothing relies on what it said. The
// file is in fsys; disk is the file system below, whose files have the lengths that they take.
func diskBudget(fsys, disk vfs.FS, dir string, configured int64, log *slog.Logger) (int64, error) {
	if configured > 0 {
		return configured, nil
	}
	path := fsys.PathJoin(dir, budgetName)
	stored, err := readBudget(fsys, path)
	switch {
	case err == nil:
		return stored, nil
	case errors.Is(err, errBudgetFile):
		log.Warn("the stored disk budget is decided again", "error", err)
	case !errors.Is(err, fs.ErrNotExist):
		return 0, err
	}
	du, err := disk.GetDiskUsage(dir)
	if err != nil {
		log.Warn("no disk budget: the file system does not tell its free space (limits.disk_bytes sets one)", "error",
			err)
		return 0, nil
	}
	bytes := max((int64(du.AvailBytes)+folderBytes(disk, dir))/2, 1)
	if err := writeBudget(fsys, dir, path, bytes); err != nil {
		return 0, fmt.Errorf("node: disk budget: %w", err)
	}
	log.Info("disk budget decided", "bytes", bytes)
	return bytes, nil
}

// presentBudget returns what tells the budget of the data folder: the configured one of the moment, or else the one
// that was decided when the folder was created, or is decided when it is first asked for.
func presentBudget(
	fsys vfs.FS, deps *Deps, cfg *config.Config, live func() *config.Config,
) (limit func() int64, err error) {
	start, err := diskBudget(fsys, deps.FS, cfg.DataDir, cfg.Limits.DiskBytes, deps.Logger)
	if err != nil {
		return nil, err
	}
	decided := sync.OnceValue(func() int64 {
		if cfg.Limits.DiskBytes == 0 {
			return start
		}
		bytes, err := diskBudget(fsys, deps.FS, cfg.DataDir, 0, deps.Logger)
		if err != nil {
			deps.Logger.Warn("the disk budget stays that of the start", "error", err)
			return start
		}
		return bytes
	})
	return func() int64 {
		if bytes := live().Limits.DiskBytes; bytes > 0 {
			return bytes
		}
		return decided()
	}, nil
}

// readBudget returns fs.ErrNotExist, wrapped, if there is none, and errBudgetFile if it is damaged.
func readBudget(fsys vfs.FS, path string) (int64, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return 0, fmt.Errorf("node: disk budget: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("node: disk budget: %w", err)
	}
	var v budgetFile
	if err := json.Unmarshal(b, &v); err != nil {
		return 0, fmt.Errorf("%w: %s: %w", errBudgetFile, path, err)
	}
	if v.DiskBytes <= 0 {
		return 0, fmt.Errorf("%w: %s: disk_bytes is %d", errBudgetFile, path, v.DiskBytes)
	}
	return v.DiskBytes, nil
}

// writeBudget replaces the file durably: after a crash it holds either the old content or the new one.
func writeBudget(fsys vfs.FS, dir, path string, bytes int64) error {
	b, err := json.Marshal(budgetFile{bytes})
	if err != nil {
		return err
	}
	f, err := fsys.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = f.Write(append(b, '\n')); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(path+".tmp", path); err != nil {
		return err
	}
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
