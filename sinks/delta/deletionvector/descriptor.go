package deletionvector

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
)

// Descriptor is the deletionVector of an add or remove action. A nil descriptor stands for none.
type Descriptor struct {
	StorageType string `json:"storageType"`
	Path        string `json:"pathOrInlineDv"`
	Offset      *int32 `json:"offset,omitempty"` // of the vector in its object, bytes
	Size        int32  `json:"sizeInBytes"`
	Cardinality int64  `json:"cardinality"` // deleted rows
}

// MaxSize is the size in bytes of the largest vector that is read: that of a file of 500 million rows.
const MaxSize = 64 << 20

// ErrElsewhere says that a vector is named by an absolute path: whose object that is cannot be told from the log.
var ErrElsewhere = errors.New("deletionvector: an absolute path")

// ID is the vector's uniqueId, which with a path names a logical file; "" for none.
func (d *Descriptor) ID() string {
	switch {
	case d == nil:
		return ""
	case d.Offset == nil:
		return d.StorageType + d.Path
	}
	return d.StorageType + d.Path + "@" + strconv.FormatInt(int64(*d.Offset), 10)
}

// FileID names a logical file: a path, and the vector that hides rows of it.
func FileID(path string, d *Descriptor) string {
	if d == nil {
		return path
	}
	return path + "\x00" + d.ID()
}

// Check returns an error if the descriptor is not one of the protocol's.
func (d *Descriptor) Check() error {
	switch {
	case d == nil:
		return nil
	case d.StorageType != "u" && d.StorageType != "i" && d.StorageType != "p":
		return fmt.Errorf("deletion vector: storage type %q", d.StorageType)
	case d.Size < 0 || d.Size > MaxSize:
		return fmt.Errorf("deletion vector: %d bytes, more than %d", d.Size, MaxSize)
	case d.Cardinality < 0:
		return fmt.Errorf("deletion vector: %d rows", d.Cardinality)
	case d.StorageType == "i" && d.Offset != nil || d.Offset != nil && *d.Offset < 0:
		return fmt.Errorf("deletion vector: offset %d", *d.Offset)
	}
	if d.StorageType == "u" {
		_, err := d.Key()
		return err
	}
	return nil
}

// uuidLetters are the letters of a UUID in Z85.
const uuidLetters = 20

// Key is the key of the vector's object below the table's folder, "" for a vector that stands in the log. It returns
// ErrElsewhere for one with an absolute path.
func (d *Descriptor) Key() (string, error) {
	switch d.StorageType {
	case "i":
		return "", nil
	case "p":
		return "", fmt.Errorf("%w: %s", ErrElsewhere, d.Path)
	}
	at := len(d.Path) - uuidLetters
	if at < 0 {
		return "", fmt.Errorf("deletion vector: %q has no UUID", d.Path)
	}
	id, err := decodeZ85(d.Path[at:])
	if err != nil {
		return "", err
	}
	for _, c := range []byte(d.Path[:at]) {
		// Others draw it from these; anything else might lead out of the folder.
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return "", fmt.Errorf("deletion vector: prefix %q", d.Path[:at])
		}
	}
	name := "deletion_vector_" + uuid.UUID(id).String() + ".bin"
	if at == 0 {
		return name, nil
	}
	return d.Path[:at] + "/" + name, nil
}
