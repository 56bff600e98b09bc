--- One suggestion: where it belongs, how far it has been typed, and its next word or line.

---@class intract.Suggestion
---@field bufnr integer
---@field row integer of its first character, from 0
---@field col integer the same, in bytes
---@field text string from there on, with LF between lines
---@field replaces integer bytes behind the cursor that it takes the place of
---@field behind? string what stood behind the cursor on its line when the server was asked
---@field client_id integer
---@field command? lsp.Command to run when it has been accepted

---@alias intract.Piece 'all'|'word'|'line'

local M = {}

--- White space and what follows it: a word by 'iskeyword', or a run of other characters.
local WORD = [[^\_s*\%(\k\+\|\%(\k\@!\S\)\+\)]]

--- Turns a position's character into a byte column of its line.
---
---@param line string
---@param character integer
---@param encoding string 'utf-8', 'utf-16' or 'utf-32'
---@return integer
function M.column(line, character, encoding)
  if encoding == 'utf-8' then
    return math.min(character, #line)
  end
  if vim.fn.has('nvim-0.11') == 1 then
    return vim.str_byteindex(line, encoding, character, false)
  end
  local characters, units = vim.str_utfindex(line)
  local is_utf16 = encoding == 'utf-16'
  return vim.str_byteindex(line, math.min(character, is_utf16 and units or characters), is_utf16)
end

--- Reads an item that was asked for at the cursor.
---
---@param item lsp.InlineCompletionItem
---@param bufnr integer the current buffer
---@param client vim.lsp.Client
---@return intract.Suggestion? suggestion nothing for what we cannot show: snippets, or text that begins elsewhere
function M.from_item(item, bufnr, client)
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  row = row - 1
  local line = vim.api.nvim_get_current_line()
  local first, last = col, col
  local range = item.range
  if range then
    if range.start.line ~= row or range['end'].line ~= row then
      return nil
    end
    first = M.column(line, range.start.character, client.offset_encoding)
    last = M.column(line, range['end'].character, client.offset_encoding)
  end
  if type(item.insertText) ~= 'string' or first > col or last < col then
    return nil
  end
  return {
    bufnr = bufnr,
    row = row,
    col = first,
    text = (item.insertText:gsub('\r\n?', '\n')),
    replaces = last - col,
    behind = line:sub(col + 1),
    client_id = client.id,
    command = item.command,
  }
end

--- Returns how much of a suggestion has been typed.
---
---@param suggestion intract.Suggestion
---@return string? typed nothing where something else was typed, the cursor went elsewhere, or all of it is there
function M.typed(suggestion)
  if vim.api.nvim_get_current_buf() ~= suggestion.bufnr then
    return nil
  end
  local line, col = unpack(vim.api.nvim_win_get_cursor(0))
  local row = line - 1
  if row < suggestion.row or (row == suggestion.row and col < suggestion.col) then
    return nil
  end
  local first = vim.api.nvim_buf_get_lines(suggestion.bufnr, suggestion.row, suggestion.row + 1, false)[1]
  if not first or #first < suggestion.col then
    return nil
  end
  local between = vim.api.nvim_buf_get_text(suggestion.bufnr, suggestion.row, suggestion.col, row, col, {})
  local typed = table.concat(between, '\n')
  local behind = vim.api.nvim_get_current_line():sub(col + 1)
  if suggestion.behind and suggestion.behind ~= behind or #behind < suggestion.replaces then
    return nil
  end
  local is_beginning = #typed < #suggestion.text and vim.startswith(suggestion.text, typed)
  return is_beginning and typed or nil
end

--- Returns what the next accept of a word or a line takes of a text.
---
---@param text string
---@param piece intract.Piece
---@return string
function M.piece(text, piece)
  if piece == 'line' then
    return text:match('^\n*[^\n]*')
  end
  if piece == 'word' then
    local word = vim.fn.matchstr(text, WORD)
    return word ~= '' and word or text
  end
  return text
end

return M
