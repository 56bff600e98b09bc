// Stands in for @vscode/spdlog, whose native part is not built here: without it VS Code keeps no logs, which tests read.
// scripts/install-vscode puts it in its place.
'use strict';
const fs = require('node:fs');
const path = require('node:path');

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'critical'];

class Logger {
    constructor(file) {
        fs.mkdirSync(path.dirname(file), { recursive: true });
        this.file = file;
        this.level = LEVELS.indexOf('info');
        this.pattern = true;
        for (const [level, name] of LEVELS.entries()) {
            this[name] = (message) => this.write(level, message);
        }
    }

    write(level, message) {
        if (level >= this.level) {
            const before = this.pattern ? `${new Date().toISOString()} [${LEVELS[level]}] ` : '';
            fs.appendFileSync(this.file, `${before}${message}${this.pattern ? '\n' : ''}`);
        }
    }

    getLevel() {
        return this.level;
    }

    setLevel(level) {
        this.level = level;
    }

    setPattern() {}

    clearFormatters() {
        this.pattern = false;
    }

    flush() {}

    drop() {}
}

exports.version = 0;
exports.setLevel = () => {};
exports.setFlushOn = () => {};
exports.createRotatingLogger = async (name, file) => new Logger(file);
exports.createAsyncRotatingLogger = exports.createRotatingLogger;
