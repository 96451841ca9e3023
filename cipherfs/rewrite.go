package cipherfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// category is what Pebble's file system counts the layer's own writes as.
const category = vfs.DiskWriteCategory("deckle-encryption")

// Rewrite gives every file of the folder the first key, or makes it plain if o.NewPlain is set, and then forgets the
// keys that no file has any more. It returns what it has rewritten. Nobody else may use the folder meanwhile;
// o.Lock sees to that. If it is interrupted, it goes on where it was. A file is rewritten as it reads: what does not
// authenticate is zeros from then on, and one whose header is not whole stays as it is. Plain files are taken in only
// if o.Plain accepts them: what somebody else has put there would pass for ours from then on.
func Rewrite(ctx context.Context, o Options, dir string, outside ...string) (done Count, err error) {
	f, err := Prove(o, dir, outside...)
	if err != nil || len(o.Keys) == 0 {
		return done, err
	}
	lock, err := f.lock()
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	for _, path := range o.Discard {
		if err := o.FS.RemoveAll(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return done, fmt.Errorf("cipherfs: %w", err)
		}
	}
	_, layer, err := f.begin()
	if err != nil {
		return done, err
	}
	if layer != nil {
		if done, err = f.rewriteAll(ctx, layer, outside); err != nil {
			return done, err
		}
	}
	f.want.Keys = slices.DeleteFunc(f.want.Keys, func(e proofKey) bool {
		return o.NewPlain || e.ID != o.Keys[0].id.String()
	})
	return done, f.save()
}

func (f *Folder) rewriteAll(ctx context.Context, layer *FS, outside []string) (done Count, err error) {
	now, err := take(f.o.FS, f.dir, outside)
	if err != nil {
		return done, err
	}
	var todo []string
	for id, paths := range now.sealed {
		if f.o.NewPlain || id != f.o.Keys[0].id {
			todo = append(todo, paths...)
		}
	}
	if f.o.Plain && !f.o.NewPlain {
		todo = append(append(todo, now.plain...), now.unknown...)
	}
	slices.Sort(todo)
	// The identity is sealed first and unsealed last: see sealIdentity.
	identity := f.o.FS.PathJoin(f.dir, identityName)
	if i := slices.Index(todo, identity); i >= 0 {
		if todo = slices.Delete(todo, i, i+1); f.o.NewPlain {
			todo = append(todo, identity)
		} else {
			todo = slices.Insert(todo, 0, identity)
		}
	}
	all := now.total(todo)
	for _, path := range todo {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		if err := layer.rewrite(path, f.o.NewPlain); err != nil {
			return done, err
		}
		done.Files++
		done.Bytes += now.size[path]
		if f.o.Progress != nil {
			f.o.Progress(done, all)
		}
	}
	return done, nil
}

// rewrite replaces a file by a copy that is sealed with the first key, or plain.
func (f *FS) rewrite(path string, plain bool) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cipherfs: rewrite %s: %w", path, err)
		}
	}()
	from, err := f.Open(path)
	if err != nil {
		return err
	}
	create := f.create
	if plain {
		create = f.below.Create
	}
	to, err := create(path+rewriteSuffix, category)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	before := f.Unauthentic()
	_, err = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, flushBytes))
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close(), from.Close()); err != nil {
		return err
	}
	if f.Unauthentic() != before {
		f.log.Warn("a file that was rewritten has bytes that cannot be told; they stay zeros", "file", path)
	}
	if err := f.below.Rename(path+rewriteSuffix, path); err != nil {
		return err
	}
	return syncDir(f.below, f.below.PathDir(path))
}
