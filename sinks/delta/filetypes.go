package delta

import (
	"fmt"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"deckle/sinks"
)

const (
	hintTypes = "another tool has written the file; rewrite it with " +
		"spark.sql.parquet.outputTimestampType=TIMESTAMP_MICROS and the column types of the table"
	hintPath = "another tool has added a file that lies outside of the table (a shallow clone, a conversion); have " +
		"it copied into the table (Spark: rewrite its partition), or remove it"
	hintSize = "another tool has merged files into one that is too large to be rewritten for a row; " +
		"rewrite the partition into smaller files (Spark: spark.databricks.delta.optimize.maxFileSize)"
)

// columnType is the part of a Parquet column's type that decides how its stored values are read.
type columnType struct {
	physical format.Type
	meaning  string // "" for a plain value
}

func (c columnType) String() string {
	if c.meaning == "" {
		return c.physical.String()
	}
	return c.physical.String() + " " + c.meaning
}

// typeOf brings the two notations of a column's meaning, the logical type and the older converted type, into one form.
// Texts are read as bytes whichever of the text types the file names.
func typeOf(e *format.SchemaElement) columnType {
	c := columnType{physical: e.Type.V}
	switch v := e.LogicalType.Value.(type) {
	case nil:
		if e.ConvertedType.Valid {
			switch e.ConvertedType.V {
			case deprecated.TimestampMicros:
				c.meaning = (&format.TimestampType{IsAdjustedToUTC: true,
					Unit: format.TimeUnit{Value: &format.MicroSeconds{}}}).String()
			case deprecated.Int32, deprecated.Int64, deprecated.UTF8, deprecated.Json, deprecated.Enum:
			default:
				c.meaning = fmt.Sprintf("converted type %d", e.ConvertedType.V)
			}
		}
	case *format.IntType:
		if !v.IsSigned || (c.physical != format.Int64 || v.BitWidth != 64) &&
			(c.physical != format.Int32 || v.BitWidth != 32) {
			c.meaning = v.String()
		}
	case *format.StringType, *format.EnumType, *format.JsonType:
		if c.physical != format.ByteArray {
			c.meaning = v.String()
		}
	default:
		c.meaning = v.String()
	}
	return c
}

const twice = "there twice"

// topLevel returns the types of the schema's columns by name. odd says of a column by name that it is a group, is
// repeated or occurs twice.
func topLevel(schema []format.SchemaElement) (leaves map[string]columnType, odd map[string]string) {
	leaves, odd = map[string]columnType{}, map[string]string{}
	if len(schema) == 0 {
		return leaves, odd
	}
	for i := 1; i < len(schema); {
		e := &schema[i]
		name := e.Name
		_, again := leaves[name]
		switch {
		case again:
			odd[name] = twice
		case e.NumChildren.V > 0 || !e.Type.Valid:
			odd[name] = "a group"
		case e.RepetitionType.V == format.Repeated:
			odd[name] = "repeated"
		}
		leaves[name] = typeOf(e)
		// Skip the elements below the column: every element read leaves one less to read, every group adds its
		// children.
		for left := 1; left > 0 && i < len(schema); i++ {
			left += int(schema[i].NumChildren.V) - 1
		}
	}
	return leaves, odd
}

// checkTypes refuses a file that stores one of the columns in another way than this package does. The Parquet reader
// would convert its values without an error, e.g. INT96 timestamps to their low 64 bits. The columns of later may be
// missing. The error is a *sinks.StopError.
func checkTypes(key string, f *parquet.File, columns *parquet.Schema, later []string) error {
	stop := func(name, format string, args ...any) error {
		return &sinks.StopError{Hint: hintTypes,
			Err: fmt.Errorf("delta: file %s: column %s %s", key, name, fmt.Sprintf(format, args...))}
	}
	got, odd := topLevel(f.Metadata().Schema)
	for _, field := range columns.Fields() {
		name, typ := field.Name(), field.Type()
		e := format.SchemaElement{}
		e.Type.V, e.Type.Valid = *typ.PhysicalType(), true
		if l := typ.LogicalType(); l != nil {
			e.LogicalType = *l
		}
		have, ok := got[name]
		switch want := typeOf(&e); {
		case !ok && slices.Contains(later, name):
		case !ok:
			return stop(name, "is missing")
		case odd[name] != "":
			return stop(name, "is %s, want one %s", odd[name], want)
		case have != want:
			return stop(name, "is stored as %s, want %s", have, want)
		}
	}
	return nil
}

// candidateLimit is the size in bytes of the largest file that a revision rewrites, as the whole file is held in
// memory. Files that this sink writes are always smaller.
func candidateLimit(fileBytes int64) int64 { return max(512<<20, 2*fileBytes) }

// elsewhere is the error for a live file whose object is none of the table's folder. cause names its path.
func elsewhere(table string, cause error) error {
	return &sinks.StopError{Hint: hintPath, Err: fmt.Errorf("delta: table %s: %w", table, cause)}
}

func checkSize(table, path string, size, limit int64) error {
	if size <= limit {
		return nil
	}
	return &sinks.StopError{Hint: hintSize,
		Err: fmt.Errorf("delta: file %s/%s: %d bytes, more than the %d that a revision reads",
			strings.TrimSuffix(table, "/"), path, size, limit)}
}
