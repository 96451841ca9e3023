package clickhouse

import (
	"errors"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

// class says what an error means for the rows of the failed query.
type class int

const (
	// classRetry: the same insert may succeed later. Unknown codes and errors are in this class, too.
	classRetry class = iota
	// classData: a row is refused for good.
	classData
	// classSchema: the tables are not those that this version writes.
	classSchema
)

// classes are the codes with a meaning of their own. All other errors are retried: network and Keeper errors, memory,
// disk and part limits, read-only tables, quorum, and also rights and passwords, which an operator corrects on the
// server while the node waits. UNKNOWN_STATUS_OF_INSERT is retried like the others, because repeating an insert changes
// nothing that is visible.
var classes = map[proto.Error]class{
	// The value of a row.
	proto.ErrCannotParseText:                  classData, // 6
	proto.ErrAttemptToReadAfterEOF:            classRetry,
	proto.ErrArgumentOutOfBound:               classData, // 69
	proto.ErrCannotParseDate:                  classData, // 38
	proto.ErrCannotParseDatetime:              classData, // 41
	proto.ErrIncorrectData:                    classData, // 117
	proto.ErrTooLargeStringSize:               classData, // 131
	proto.ErrCannotInsertNullInOrdinaryColumn: classData, // 349
	proto.ErrViolatedConstraint:               classData, // 469
	proto.ErrValueIsOutOfRangeOfDataType:      classData, // 321
	proto.ErrUnknownElementOfEnum:             classData, // 691

	// The tables.
	proto.ErrThereIsNoColumn:                   classSchema, // 8
	proto.ErrNotFoundColumnInBlock:             classSchema, // 10
	proto.ErrNoSuchColumnInTable:               classSchema, // 16
	proto.ErrNumberOfColumnsDoesntMatch:        classSchema, // 20
	proto.ErrIllegalTypeOfArgument:             classSchema, // 43
	proto.ErrIllegalColumn:                     classSchema, // 44
	proto.ErrUnknownIdentifier:                 classSchema, // 47
	proto.ErrTypeMismatch:                      classSchema, // 53
	proto.ErrUnknownTable:                      classSchema, // 60
	proto.ErrCannotConvertType:                 classSchema, // 70
	proto.ErrUnknownDatabase:                   classSchema, // 81
	proto.ErrUnknownSetting:                    classSchema, // 115
	proto.ErrTableIsDropped:                    classRetry,  // TABLE_IS_DROPPED: the next query finds it unknown
	proto.ErrQueryWasCancelled:                 classRetry,
	proto.ErrUnknownStatusOfInsert:             classRetry,
	proto.ErrTooManySimultaneousQueries:        classRetry,
	proto.ErrMemoryLimitExceeded:               classRetry,
	proto.ErrTableIsReadOnly:                   classRetry,
	proto.ErrNotEnoughSpace:                    classRetry,
	proto.ErrTooManyParts:                      classRetry,
	proto.ErrTimeoutExceeded:                   classRetry,
	proto.ErrUnsatisfiedQuorumForPreviousWrite: classRetry,
	proto.ErrAccessDenied:                      classRetry,
	proto.ErrAuthenticationFailed:              classRetry,
}

// rowError is an error that the package itself found in a row, before the server saw it.
type rowError struct{ err error }

func (e *rowError) Error() string { return e.err.Error() }
func (e *rowError) Unwrap() error { return e.err }

// classify returns the class of an error.
func classify(err error) class {
	if _, ok := errors.AsType[*rowError](err); ok {
		return classData
	}
	if e, ok := ch.AsException(err); ok {
		return classes[e.Code]
	}
	return classRetry
}
