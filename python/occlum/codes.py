"""The one table of errors, and the one of exit statuses: what `occlum explain` and the documentation print.

Every error of the tool carries a code of `ERRORS`, and every code here is raised somewhere: tests/unit/test_codes.py.
Data only, imported when somebody asks. Neighbours: `errors` (whose classes have default codes), `cli.explain`. A code
never gets another meaning: users search for it.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ERRORS", "STATUSES", "Explanation", "Status"]


class Explanation(NamedTuple):
    """What is behind a code."""

    title: str
    cause: str
    fix: str


class Status(NamedTuple):
    """A row of the table of exit statuses. `of`: the commands that end with it."""

    status: str
    of: str
    meaning: str


ERRORS: dict[str, Explanation] = {
    # The command line and options.
    "OC100": Explanation(
        "The command line makes no sense",
        "A command, an option or an argument is unknown, missing or out of range; the message names it.",
        "Look at `occlum COMMAND --help`; words for the program stand behind its name, or after `--`.",
    ),
    "OC101": Explanation(
        "A value of an option cannot be used",
        "A size, a duration, a number of CPUs or of workers, or a level cannot be read or is out of range; or a file "
        "or directory that an option names cannot be written.",
        "Sizes are like 512M or 4G (an enclave has 64M to 1T), durations like 500ms, 30s or 2m, CPUs 1 to 64.",
    ),
    "OC102": Explanation(
        "A directory or file cannot be shared",
        "The value of -v is not PATH or HOST:GUEST, its path does not exist here, or the path inside is not absolute.",
        "Create the path first; write `-v PATH`, `-v HOST:/absolute/path`, and `:ro` behind it for read-only.",
    ),
    "OC103": Explanation(
        "A port cannot be published as written",
        "The value of -p does not name ports, or names the same port of this machine twice.",
        "Write `-p HOSTPORT:PORT`, `-p ADDRESS:HOSTPORT:PORT`, and `/udp` behind it for UDP.",
    ),
    "OC104": Explanation(
        "A name cannot name an enclave",
        "Names of enclaves are names of directories, so not every text will do.",
        "Use up to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit.",
    ),
    "OC105": Explanation(
        "There is no such code",
        "`occlum explain` was asked for something that is neither an error's code nor an exit status.",
        "`occlum explain` without an argument lists them all.",
    ),
    "OC106": Explanation(
        "A file of this machine cannot be used",
        "The system refused to open, make, read or write it, or the working directory was removed; the message has the "
        "path and the system's own words.",
        "Name another path, or make the one that is named usable: `ls -ld PATH` shows what is there.",
    ),
    # The installation and this machine.
    "OC200": Explanation(
        "The enclave image is missing or damaged",
        "The package carries the enclave image; it is not there, cannot be read, or is not what the build makes.",
        "In a source tree run `make build`; otherwise install the package again.",
    ),
    "OC201": Explanation(
        "The runtime directory cannot be used",
        "The sockets of running enclaves are in a directory that only you may enter. It cannot be made, is not a "
        "directory, or is open to others: $OCCLUM_RUNTIME_DIR, else $XDG_RUNTIME_DIR/occlum, else /tmp/occlum-UID.",
        "Set OCCLUM_RUNTIME_DIR to a directory of yours, or make its rights 0700 (`chmod 700 DIR`).",
    ),
    "OC202": Explanation(
        "This machine lacks something that enclaves need",
        "A feature of the CPU or of the kernel is missing, such as instructions that set FS and GS (FSGSBASE).",
        "`occlum doctor` says what is missing and what to do about it.",
    ),
    "OC203": Explanation(
        "An optional part is not installed",
        "A function was used whose library the package does not install by itself.",
        "Install the extra that the message names, such as `pip install 'occlum[executor]'`.",
    ),
    # Enclaves.
    "OC300": Explanation(
        "The enclave could not be created",
        "The host refused something that the simulator asked for: memory, a mapping, a thread; the message has the "
        "system's own words. Limits of the process or container (ulimit -v, cgroups, seccomp) are the usual cause.",
        "`occlum doctor` looks at the limits. A smaller enclave (`-m 512M --cpus 1`) needs less.",
    ),
    "OC301": Explanation(
        "The enclave is lost",
        "Its host process is gone or does not answer: somebody killed it, the machine ran out of memory, or the "
        "simulator failed. Nothing of the enclave's memory is left.",
        "`occlum logs --name NAME` may say why; `occlum start` or a new `Enclave` begins afresh.",
    ),
    "OC302": Explanation(
        "No enclave of that name is running",
        "The command or `Enclave.attach` names an enclave that was never started, was stopped, or belongs to another "
        "user or another runtime directory.",
        "`occlum status` lists what runs; `occlum start --name NAME` starts one.",
    ),
    "OC303": Explanation(
        "An enclave of that name is running already",
        "Each name stands for one enclave at a time.",
        "Use it (`occlum exec`), stop it (`occlum stop`), or start one of another name (`occlum start --name OTHER`).",
    ),
    "OC304": Explanation(
        "The enclave is closed",
        "An `Enclave` was used after `close()` or after its `with` statement.",
        "Start another, or use it before it is closed.",
    ),
    "OC305": Explanation(
        "The enclave's host process refused a request",
        "Client and host process are of different versions, the enclave is stopping, or the request is out of bounds: "
        "too many descriptors, a null character in an argument.",
        "Stop the enclave and start it again with this version; the message says what was wrong with the request.",
    ),
    "OC306": Explanation(
        "The enclave's host process did not start",
        "The Python that runs `python -m occlum._host` ended before it could say anything.",
        "Look at what it printed; `occlum doctor` checks the installation.",
    ),
    "OC307": Explanation(
        "The enclave failed while it ran",
        "The LibOS stopped with a message of its own, or the simulator did. This is a defect of Occlum, whatever the "
        "program did.",
        "Report it with the output of `occlum doctor --report` and the program that shows it.",
    ),
    "OC308": Explanation(
        "The enclave's addresses are not free",
        "An enclave lives at fixed addresses (from 512 MiB on, and from 1 TiB on). Something in this process is there: "
        "another library, a sanitizer, or a limit on the address space.",
        "Run the enclave in a process of its own (`occlum start`, the SDK); do not preload libraries into it.",
    ),
    "OC309": Explanation(
        "Another enclave runs in this process",
        "One process hosts one enclave.",
        "Use the SDK or `occlum start`, which give each enclave a process of its own.",
    ),
    "OC310": Explanation(
        "A port of this machine cannot be had",
        "The port of -p is in use, or is below 1024 and you are not root.",
        "Name another port, or stop what uses it (`ss -ltnp` tells).",
    ),
    "OC311": Explanation(
        "The enclave has too little memory for the program",
        "The program's first pages did not fit.",
        "Give it more with -m, such as `-m 1G`.",
    ),
    "OC312": Explanation(
        "The enclave did not start",
        "It ended before it took a program: an image that was changed, a wrong image key, a layer that is not the "
        "newest one or was written under another key; the message says which.",
        "Put back what was changed, give the right key, or build again; `occlum explain OC903` has more about layers.",
    ),
    # Programs.
    "OC400": Explanation(
        "There is no such program",
        "Neither a path nor a name in PATH, seen from inside the enclave; or it is there, and the interpreter of its "
        "`#!` line or its loader is not. An enclave that stays sees files as they were when it first looked.",
        "Give the path, or set PATH with -e; share what is new with -v.",
    ),
    "OC401": Explanation(
        "The program cannot be executed",
        "It is no executable file, you may not execute it, it is for another architecture, or its working directory is "
        "not there.",
        "`file PROGRAM` and `ls -l PROGRAM` tell; Occlum runs x86-64 ELF programs, and scripts with a `#!` line. -w "
        "(of an instance: `workdir`) names another working directory.",
    ),
    "OC402": Explanation(
        "The program took too long",
        "`--timeout` ran out, and the program was stopped.",
        "Give it more time with --timeout.",
    ),
    "OC403": Explanation(
        "There is no such process",
        "No process of the enclave has that number, or not any more.",
        "`occlum ps` lists the processes; numbers are those inside the enclave.",
    ),
    "OC404": Explanation(
        "A file could not be copied",
        "One of the two paths does not exist, may not be read or written, or exists already.",
        "The message names the path; paths inside are seen with the rights of the enclave's programs.",
    ),
    "OC405": Explanation(
        "There is nothing to verify",
        "None of the files is an x86-64 ELF file with code.",
        "Name programs or shared libraries, or directories that hold some.",
    ),
    "OC406": Explanation(
        "The program is not below an entry point",
        "The measured configuration lists the directories whose programs may be started from outside "
        "(`entry_points`), and this one is in none of them.",
        "Start a program that is, or add its directory to `entry_points` and build again.",
    ),
    "OC407": Explanation(
        "The program ends otherwise inside than outside",
        "`occlum bench` saw different exit statuses, so the times do not compare the same work.",
        "Run it with `occlum try` to see what it says inside; `--strace` shows which call it fails over.",
    ),
    # The Python SDK.
    "OC500": Explanation(
        "A parameter of subprocess that an enclave cannot have",
        "The program starts where this process's functions and process groups are not.",
        "Leave the parameter out; docs/sdk.md says what takes its place.",
    ),
    "OC501": Explanation(
        "The executor found no Python inside",
        "The enclave has no program of the name that `EnclaveExecutor(python=...)` was given.",
        "Name one that is there; by default it is this process's own.",
    ),
    "OC502": Explanation(
        "The Python inside does not match the one outside",
        "Functions travel as byte code, which only the same minor version of the same implementation understands, and "
        "cloudpickle has to be there on both sides, in the same version.",
        "Name a matching interpreter with python=..., or install the same cloudpickle inside.",
    ),
    # Configurations and images.
    "OC600": Explanation(
        "The measured configuration is damaged",
        "The page that the enclave is configured by is not one that this version writes, or was cut or changed.",
        "Build it again with this version.",
    ),
    "OC601": Explanation(
        "The signature of the enclave is refused",
        "EINIT compares the SIGSTRUCT with the enclave: its form, its signature, MRENCLAVE, attributes (debug, KSS) "
        "and MISCSELECT; then its product id, version and KSS ids with the configuration. The message says which.",
        "`occlum build` signs what it builds; what was signed elsewhere has to be signed again after each build.",
    ),
    # Instances: configuration, images, signing.
    "OC700": Explanation(
        "A configuration cannot be used",
        "Occlum.toml or Occlum.json is missing, cannot be read, has an unknown key or a value that cannot be.",
        "`occlum config check` lists everything that is wrong; `occlum config explain KEY` describes a key.",
    ),
    "OC701": Explanation(
        "This is no instance, or it is not built",
        "The command works in the directory of an instance, and what runs is what `occlum build` has made of it.",
        "Change to an instance, or make one with `occlum new PATH`; then `occlum build`.",
    ),
    "OC702": Explanation(
        "An instance was built by another version",
        "The enclave image of this installation is not the one that the instance was built with.",
        "Build the instance again, or install the version that built it.",
    ),
    "OC703": Explanation(
        "An instance is in use",
        "Another process builds or runs this instance; its written files have one user at a time.",
        "Wait for it, or stop it: `occlum status` lists enclaves that stay.",
    ),
    "OC704": Explanation(
        "An instance is there already",
        "`occlum new` and `occlum init` make instances only where there is none.",
        "Use the one that is there, or take another directory.",
    ),
    "OC705": Explanation(
        "An instance needs its image key, or has none",
        "Its image, or a layer of it, is encrypted by an image key, which is not in the instance; or a key was given "
        "and nothing of it is encrypted.",
        "Give the file that it was built with: `--image-key FILE`, or `Enclave.from_instance(path, image_key=FILE)`; "
        "leave it out where `occlum build` was given none.",
    ),
    "OC720": Explanation(
        "An image cannot be built",
        "A file of the image cannot be read or is no file, or there is no room for the image.",
        "The message names the file; the build before this one is still whole.",
    ),
    "OC721": Explanation(
        "A BOM file cannot be carried out",
        "It is no BOM, or names files, directories or variables that are not there.",
        "The message names the place; docs/images.md has the schema.",
    ),
    "OC722": Explanation(
        "Something that an image needs is not on this machine",
        "A program, a loader, a shared library or a tool was not found.",
        "Install it, or name the place where it is.",
    ),
    "OC723": Explanation(
        "An archive cannot be part of an image",
        "It is damaged, does not have its digest, holds devices, leads out of the image or grows without bound.",
        "Get the image again from where it comes from; what such an archive holds is never used.",
    ),
    "OC724": Explanation(
        "An instance cannot be packed as it is",
        "It is a debug enclave, which whoever runs it can look into, or it is not what its configuration says.",
        "Set metadata.debuggable = false, build again, and pack; or give --debug.",
    ),
    "OC725": Explanation(
        "A build is not what Occlum.lock says",
        "The lock file names versions of Debian packages, inputs and a measurement; the mirror has other versions, "
        "something of the instance changed, or (with --locked) there is no lock file.",
        "`occlum build` writes a new lock file; `occlum build --force` takes the versions that the mirror has now; "
        "debian_mirror can name a snapshot of the mirror.",
    ),
    "OC730": Explanation(
        "An enclave cannot be signed, or its signature is no good",
        "The key is not RSA-3072 with exponent 3, a signing command failed, or what was built is not what was signed.",
        "Make a key with `occlum gen-sign-key FILE`, and build with `--sign-key FILE`.",
    ),
    # Sealed stores.
    "OC900": Explanation(
        "A sealed store cannot be used",
        "The store could not be opened, read or changed: it is damaged, was tampered with, is of another format, or "
        "the path inside is not there. The message says which.",
        "`occlum fs fsck STORE` says what can still be read; `occlum fs --help` lists what can be done.",
    ),
    "OC901": Explanation(
        "A key cannot be used",
        "The file cannot be read, or is no key: a key file has 64 hexadecimal digits (32 bytes, not raw), or 16 bytes "
        "as xx-xx-..., the form of the original Occlum.",
        "`occlum gen-image-key FILE` makes one; of 32 raw bytes, `xxd -p RAW > FILE` does.",
    ),
    "OC902": Explanation(
        "The store is in use",
        "Another process has the store open; two writers would destroy it.",
        "End the other one, or wait for it.",
    ),
    "OC903": Explanation(
        "A sealed store is not the newest one",
        "The counter of the store knows a newer state (rolled back), or another one of the same age (a copy that was "
        "changed elsewhere); or the counter itself cannot be read or was changed. An enclave says the same of its "
        "layers, ends with 125, and also refuses a layer that was swapped, is gone, or whose counter is gone.",
        "Put the newest copy of the store back. To begin afresh instead, giving up what was written: `occlum build "
        "--force` for an instance's layers, another --insecure-counter file for a store.",
    ),
}

STATUSES: tuple[Status, ...] = (
    Status("0-255", "try, run, exec", "the program's own exit status, exactly"),
    Status("128+N", "try, run, exec", "signal N ended the program"),
    Status("124", "try, run", "--timeout ran out; the program was stopped"),
    Status(
        "125", "all", "occlum itself failed: bad options, no memory for the enclave, a lost enclave; see the message"
    ),
    Status("126", "try, run, exec, check, bench", "the program exists but cannot be executed"),
    Status("127", "try, run, exec, check, bench", "there is no such program"),
    Status("130", "all", "Ctrl-C ended occlum itself"),
    Status(
        "1",
        "status, kill, verify, check, bench, diff, config check, fs fsck, doctor",
        "the answer is no: it does not run, is not there, is not good",
    ),
    Status(
        "248-255",
        "copy-bom",
        "the original's: 255 a file is missing, 254 it cannot be copied, 253 the BOM makes no sense, 252 a directory "
        "or 251 a link cannot be made, 249 a hash is another one, 248 a library is missing",
    ),
    Status("0", "all others", "done"),
)
