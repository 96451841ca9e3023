package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/minio/minio-go/v7"
)

// MaxDelete is how many objects one request of DeleteAll removes at most, as S3's DeleteObjects has it.
const MaxDelete = 1000

// errUnanswered says that the answer to a request for several objects does not name this one.
var errUnanswered = errors.New("the store's answer does not name it")

// deleter is a store that removes several objects by one request.
type deleter interface {
	DeleteAll(ctx context.Context, keys []string) error
}

// DeleteAll removes the objects; missing ones are no error. A store that knows no request for several objects is asked
// for one after the other. After an error any of them may be gone, and the call may be repeated.
func DeleteAll(ctx context.Context, s Store, keys []string) error {
	for _, key := range keys {
		if err := CheckForeign(key); err != nil {
			return err
		}
	}
	d, ok := s.(deleter)
	for ; ok && len(keys) > 0; keys = keys[min(len(keys), MaxDelete):] {
		if err := d.DeleteAll(ctx, keys[:min(len(keys), MaxDelete)]); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if err := s.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// DeleteAll removes at most MaxDelete objects by one request.
func (s *S3) DeleteAll(ctx context.Context, keys []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	objects := make(chan minio.ObjectInfo, len(keys))
	open := make(map[string]bool, len(keys))
	for _, key := range keys {
		objects <- minio.ObjectInfo{Key: s.prefix + key}
		open[s.prefix+key] = true
	}
	close(objects)
	var errs []error
	for r := range s.client.RemoveObjectsWithResult(ctx, s.bucket, objects, minio.RemoveObjectsOptions{}) {
		if r.Err != nil && minio.ToErrorResponse(r.Err).Code != minio.NoSuchKey {
			errs = append(errs, fmt.Errorf("store: delete %s: %w", r.ObjectName, r.Err))
		}
		delete(open, r.ObjectName)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("store: delete %d objects: %w", len(keys), err)
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w (and %d more)", errs[0], len(errs)-1)
	}
	for key := range open {
		return fmt.Errorf("store: delete %s: %w", key, errUnanswered)
	}
	return nil
}

// DeleteAll allows one second more for each hundred objects, as a store removes them one after the other.
func (t *timeouts) DeleteAll(ctx context.Context, keys []string) error {
	if _, ok := t.s.(deleter); !ok {
		for _, key := range keys {
			if err := t.Delete(ctx, key); err != nil {
				return err
			}
		}
		return nil
	}
	d := t.per + time.Duration(len(keys))*time.Second/100
	return t.do(ctx, d, "delete", fmt.Sprintf("%d objects", len(keys)), func(ctx context.Context) error {
		return DeleteAll(ctx, t.s, keys)
	})
}
