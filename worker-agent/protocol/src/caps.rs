//! Every bound on what one side may send to the other, in one place. An agent is hostile input: it may be anybody's program, or ours under
//! the hands of a build. What is beyond a cap is refused, cut or ended, and said; the page of the protocol has the table.

/// Most bytes of output in one stream frame.
pub const MAX_FRAME_BYTES: usize = 256 * 1024;

/// Most bytes of a line that is shown as one. A longer one is shown as several, and is never in a packed frame.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// Most bytes of one control message, either way. A longer one is a fault of the sender and ends the connection.
pub const MAX_CONTROL_BYTES: usize = 8 * 1024 * 1024;

/// Most entries in all listings of one command; past it a listing says that it was cut.
pub const MAX_LISTED: usize = 10_000;

/// Most bytes of names, all together, in the answer to one command.
pub const MAX_NAME_BYTES: usize = 1024 * 1024;

/// Most bytes of a message for people.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024;

/// Most commands that an agent holds at once, running or finished and not yet forgotten. One more fails as infrastructure; a hello with
/// more is refused.
pub const MAX_COMMANDS: usize = 1_000;

/// Most files that one command has followed.
pub const MAX_FILE_LOGS: usize = 16;

/// Most streams in a hello: of each command its own, and those of its files.
pub const MAX_STREAMS: usize = MAX_COMMANDS * (1 + MAX_FILE_LOGS);

/// Most bytes of each text of a hello; the join token and the key have their own lengths.
pub const MAX_HELLO_TEXT: usize = 1024;

/// Most features, and most tools, in a hello.
pub const MAX_HELLO_WORDS: usize = 100;

/// How long a connection may take to say who it is, in seconds.
pub const MAX_HELLO_SECONDS: u64 = 10;

/// How long a connection may take to show that it is a worker's, by a hello or by a transfer's token, in seconds.
pub const MAX_STRANGER_SECONDS: u64 = 30;

/// Most connections to the listener for many that have not shown it yet; more wait for their turn.
pub const MAX_STRANGERS: usize = 256;

/// Most connections of one worker at a time: the link, and transfers.
pub const MAX_CONNECTIONS: usize = 64;

/// Most bytes that are kept of one log, unless the master was started with another bound. What comes after them is taken and dropped; of a
/// file that is followed an agent sends no more than this.
pub const MAX_LOG_BYTES: u64 = 1 << 30;

/// Most files in one upload, and of one step.
pub const MAX_UPLOAD_FILES: usize = 10_000;

/// Most bytes of all files of one step.
pub const MAX_UPLOAD_BYTES: u64 = 10 << 30;

/// Most bytes of a file's path, as it is kept.
pub const MAX_PATH_BYTES: usize = 1024;

/// Most bytes of a file of properties, and of what a step that sets them may print.
pub const MAX_PROPERTIES_BYTES: u64 = 1 << 20;

/// Most properties of one build.
pub const MAX_PROPERTIES: usize = 1_000;

/// Most bytes of one property's value, and of its name.
pub const MAX_PROPERTY_BYTES: usize = 64 * 1024;
pub const MAX_PROPERTY_NAME: usize = 100;
